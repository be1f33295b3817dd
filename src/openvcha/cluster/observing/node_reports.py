"""Reports of the nodes: received by a watch; the nodes' clocks are compared with our own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from openvcha.cluster.observing.observation import NodeReport
from openvcha.store import address_reports, keys
from openvcha.store import node_facts as facts
from openvcha.store.address_reports import AddressState
from openvcha.store.errors import Compacted, StoreError
from openvcha.store.interface import Event, EventType, KeyValue, Store
from openvcha.store.node_facts import NodeFacts
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

RETRY_SECONDS = 1.0
LISTEN_SECONDS = 20.0
"""How long all nodes may be silent before a new watch is begun: this one may be stuck."""
SILENT_SECONDS = 60.0
"""Longer than a node takes to start, and longer than four intervals between its reports."""
SAMPLES = 3
"""A delayed report makes a clock seem slow, so the largest of several offsets counts."""

_log = structlog.get_logger(__name__)


@dataclass
class _Node:
    since: float
    facts: NodeFacts | None = None
    revision: int = 0
    """Revision of the last report: reading the same one again is no sign of life."""
    offsets: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class NodeReports:
    """Receives the reports of all nodes while ``run`` runs; before that, nothing is known.

    ``monotonic`` counts seconds, ``clock`` is this node's time.
    """

    def __init__(
        self,
        store: Store,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._addresses: dict[str, AddressState] = {}
        self._heard_at: float | None = None

    @property
    def connected(self) -> bool:
        """Return whether the store has responded recently."""
        return self._listens(self._monotonic())

    async def run(self) -> None:
        """Watch the reports until canceled; begin a new watch if there are none for some time."""

        async def listen() -> float | None:
            try:
                async with asyncio.timeout(LISTEN_SECONDS) as limit:
                    await self._listen(limit)
            except TimeoutError:
                return 0.0
            return None

        def failed(reason: str) -> None:
            _log.info("cannot watch the nodes' facts", reason=reason)

        await repeat(listen, RETRY_SECONDS, transient=(Compacted, StoreError), failed=failed)

    def report_of(self, member: str) -> NodeReport:
        """Return the last report of a node. A node that is new here is not yet silent."""
        now = self._monotonic()
        node = self._nodes.setdefault(keys.node_facts(member), _Node(now))
        known = node.facts if now - node.since <= SILENT_SECONDS else None
        silent = self._listens(now) and known is None and now - node.since > SILENT_SECONDS
        address = self._addresses.get(keys.address_report(member)) if self._listens(now) else None
        if known is None or len(node.offsets) < SAMPLES:
            return NodeReport(known, None, silent, address)
        return NodeReport(known, max(node.offsets), silent, address)

    def _listens(self, now: float) -> bool:
        """Return whether the store has responded recently; if not, silence proves nothing."""
        return self._heard_at is not None and now - self._heard_at <= SILENT_SECONDS

    async def _listen(self, limit: asyncio.Timeout) -> None:
        """Watch the reports; each one postpones ``limit``."""
        seen = await self._store.snapshot(keys.NODES)
        self._begin_anew({kv.key for kv in seen.items})
        for kv in seen.items:
            self._note(kv, fresh=False)
        async with aclosing(self._store.watch(keys.NODES, seen.revision + 1)) as changes:
            async for events in changes:
                self._heard_at = self._monotonic()
                limit.reschedule(asyncio.get_running_loop().time() + LISTEN_SECONDS)
                for event in events:
                    self._take(event)

    def _begin_anew(self, there: Collection[str]) -> None:
        """Drop withdrawn reports; after an outage of the store, no node counts as silent yet."""
        now = self._monotonic()
        deaf = not self._listens(now)
        self._addresses = {key: one for key, one in self._addresses.items() if key in there}
        for key, node in self._nodes.items():
            if key not in there:
                node.facts = None
            if deaf and self._heard_at is not None:
                node.since = now
        self._heard_at = now

    def _take(self, event: Event) -> None:
        if event.type is EventType.PUT:
            self._note(event.kv, fresh=True)
            return
        self._addresses.pop(event.kv.key, None)
        if node := self._nodes.get(event.kv.key):
            node.facts = None

    def _note(self, kv: KeyValue, *, fresh: bool) -> None:
        """Store a report; the age of one that is not fresh is unknown."""
        if kv.key.endswith("/address"):
            self._note_address(kv)
            return
        known = self._nodes.get(kv.key)
        if not kv.key.endswith("/facts") or (known and known.revision == kv.mod_revision):
            return
        try:
            reported = facts.decode(kv.value)
        except msgspec.DecodeError as error:
            _log.warning("cannot read a node's facts", key=kv.key, reason=str(error))
            return
        now = self._monotonic()
        node = self._nodes.setdefault(kv.key, _Node(now))
        node.facts, node.since, node.revision = reported, now, kv.mod_revision
        if fresh:
            node.offsets.append((reported.clock - self._clock()).total_seconds())

    def _note_address(self, kv: KeyValue) -> None:
        """Store who holds the public address; an unreadable report means that it is unknown."""
        self._addresses.pop(kv.key, None)
        try:
            self._addresses[kv.key] = address_reports.decode(kv.value)
        except msgspec.DecodeError as error:
            _log.warning("cannot read a report on the address", key=kv.key, reason=str(error))
