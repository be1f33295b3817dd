"""The publication of what only the node itself knows: versions, disk, clock, certificates."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import msgspec

from openvcha.node.engines import Engines
from openvcha.node.identity import Identity
from openvcha.node.layout import API_CERTIFICATE, Layout
from openvcha.node.postgres.diagnosis.start_failures import find_trouble
from openvcha.node.process.logs import Logger
from openvcha.store import keys, node_facts
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.lease import RenewedLease
from openvcha.store.node_facts import NodeFacts, PostgresFacts, RefusalCause
from openvcha.system.repeating import repeat

PUBLISH_SECONDS = 10.0
TROUBLE_SECONDS = 2.0
"""While PostgreSQL does not start or refuses us: an operator may be waiting for the reason."""
LEASE_SECONDS = 40
"""Several attempts may fail before the facts expire."""


@dataclass(frozen=True)
class PostgresSurvey:
    """What a node's PostgreSQL reported; None if it could not be asked.

    ``refusal`` is why it refuses the cluster's sessions although it accepts connections, ``cause``
    the kind of that reason. A session that is still open may report then, too.
    """

    told: PostgresFacts | None = None
    refusal: str | None = None
    cause: RefusalCause = RefusalCause.ROLE


class FactsPublisher:
    """The periodic publisher of a node's facts; ``gather`` reads them (it may block).

    ``survey`` asks the node's PostgreSQL.
    """

    def __init__(
        self,
        store: Store,
        member: str,
        gather: Callable[[], NodeFacts],
        events: Logger,
        *,
        survey: Callable[[], Awaitable[PostgresSurvey]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._key = keys.node_facts(member)
        self._gather = gather
        self._events = events
        self._survey = survey
        self._clock = clock
        self._sleep = sleep
        self._lease = RenewedLease(store, LEASE_SECONDS)

    async def run(self) -> None:
        """Publish until canceled. Raises what ``gather`` raises."""
        await repeat(self._gather_and_publish, PUBLISH_SECONDS, pause=self._sleep)

    async def _gather_and_publish(self) -> float:
        found = await asyncio.to_thread(self._gather)
        if self._survey:
            seen = await self._survey()
            found = msgspec.structs.replace(
                found, postgres=seen.told, refusal=seen.refusal, refusal_cause=seen.cause
            )
        try:
            await self._publish(found)
        except StoreError as error:  # the facts found decide how soon to retry
            self._events.debug("cannot publish facts", reason=str(error))
        return TROUBLE_SECONDS if found.trouble or found.refusal else PUBLISH_SECONDS

    async def _publish(self, found: NodeFacts) -> None:
        lease = await self._lease.renewed()
        # Read the clock last: otherwise the duration of the rest would count as its error.
        told = msgspec.structs.replace(found, clock=self._clock())
        await self._store.put(self._key, node_facts.encode(told), lease)


def gather_facts(identity: Identity, layout: Layout, engines: Engines) -> NodeFacts:
    """Return the facts of this node. Raises OSError, and ValueError for a bad certificate."""
    usage = shutil.disk_usage(layout.root)
    api = layout.root / API_CERTIFICATE
    return NodeFacts(
        versions=_versions(identity, engines),
        disk_free=usage.free,
        disk_total=usage.total,
        clock=datetime.now(UTC),
        certificate_until=_expiry(layout.certificate),
        api_certificate_until=_expiry(api) if identity.holds_data else None,
        trouble=find_trouble(layout.logs) if identity.holds_data else None,
    )


# The running version, not one that was installed since.
_version = cache(version)


def _versions(identity: Identity, engines: Engines) -> dict[str, str]:
    found = {"openvcha": _version("openvcha"), "etcd": _dotted(engines.etcd.version)}
    if identity.holds_data:
        found["postgresql"] = _dotted(engines.postgres.version)
        found["patroni"] = _version("patroni")
    return found


def _dotted(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def _expiry(certificate: Path) -> datetime:
    # Imported here: it would slow down a node's start.
    from cryptography import x509  # noqa: PLC0415

    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
