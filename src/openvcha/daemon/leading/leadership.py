"""Whether this node leads: checked at each change of Patroni's leader key, and every second or two.

A change overrides a running check: when the key names another node, this one stops leading at once.
Clients wait from the moment the key names this node until its PostgreSQL accepts writes, so
meanwhile PostgreSQL itself is polled.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from openvcha.cluster.interface import PatroniAccess
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.daemon.leading.leader_proof import LeaderProof
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.node.identity import Identity
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.node.process.supervised_loop import HealthReporter, run_forever
from openvcha.store import keys
from openvcha.store.errors import Compacted, StoreError
from openvcha.store.interface import Event, EventType, Store
from openvcha.store.patroni.state import read_leader
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 1.0
STANDBY_SECONDS = 2.0
"""While this node does not lead: the key of a lost leader outlives it for much longer."""
STARTING_SECONDS = 0.1
PATRONI_TIMEOUT_SECONDS = 3.0
GRACE_SECONDS = 8.0

_log = structlog.get_logger(__name__)


class Leadership:
    """The leadership of this node: whether it is the active one.

    While the store does not respond, a leader keeps its role for ``GRACE_SECONDS``: longer than an
    election in etcd, shorter than any other node needs to become the leader. In a mode in which it
    may continue alone no other node may lead, so it keeps its role as long as it accepts writes.

    ``proof`` gets what is known of how long this node will lead.

    ``until_writable`` returns when this node's PostgreSQL accepts writes; it may raise
    PostgresUnreachable. ``term`` is set before this node leads.
    """

    def __init__(
        self,
        store: Store,
        client: PatroniAccess,
        identity: Identity,
        until_writable: Callable[[], Awaitable[None]],
        *,
        term: LeaderTerm | None = None,
        clock: Callable[[], float] | None = None,
        proof: LeaderProof | None = None,
        report_health: HealthReporter = lambda *_: None,
    ) -> None:
        self._store = store
        self._patroni = client
        self._identity = identity
        self._until_writable = until_writable
        self._term = term or LeaderTerm()
        self._report_health = report_health
        self._clock = clock or asyncio.get_running_loop().time
        self._proof = proof
        self._changed = asyncio.Event()
        self._named = self._leads = self._lost = False
        self._certain = self._clock()
        self._alone = False

    async def changes(self) -> AsyncIterator[bool]:
        """Yield whether this node leads, now and at every change."""
        async with self._watching():
            yield self._leads
            while True:
                self._changed.clear()
                async with self._background_check() as check:
                    leads = await self._result_of(check)
                    if leads != self._leads:
                        self._leads = leads
                        yield leads
                await self._wait()

    @asynccontextmanager
    async def _background_check(self) -> AsyncIterator[asyncio.Task[bool]]:
        """Check in the background during a block, which may end before the check does."""
        check = asyncio.create_task(self._check(), name="who leads?")
        try:
            yield check
        finally:
            check.cancel()
            await asyncio.gather(check, return_exceptions=True)

    async def _result_of(self, check: asyncio.Task[bool]) -> bool:
        """Return the result of a check; a change in the meantime makes it obsolete."""
        if not self._lost:
            await self._either(check)
        lost, self._lost = self._lost, False
        if lost:
            self._named = False
            return False
        return self._leads if self._changed.is_set() else check.result()

    async def _either(self, check: asyncio.Task[bool]) -> None:
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait([check, changed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)

    async def _check(self) -> bool:
        try:
            async with asyncio.timeout(PATRONI_TIMEOUT_SECONDS):
                found = await self._store.get(keys.PATRONI_LEADER)
        except (StoreError, TimeoutError):
            within_grace = self._clock() - self._certain < GRACE_SECONDS
            return self._leads and (within_grace or await self._leads_without_store())
        self._certain = self._clock()
        leader = read_leader(found.value) if found else None
        if leader != self._identity.member:
            self._end_proof()
        if found is None or leader is None:
            # Its key expired while the store was unavailable; its Patroni will acquire it again.
            return self._leads and await self._leads_without_store()
        # What was learned during an outage expires with it: the next one may be in another mode.
        self._alone = False
        self._named = leader == self._identity.member
        if not self._named:
            return False
        self._term.revision = found.mod_revision
        # Together: a client of a failover waits until PostgreSQL accepts writes.
        leads, _ = await asyncio.gather(self._leads_or_writable(), self._prove(found.lease))
        return leads

    async def _leads_or_writable(self) -> bool:
        return self._leads or await self._writable()

    async def _prove(self, lease: int) -> None:
        if self._proof:
            await self._proof.renew(lease)

    def _end_proof(self) -> None:
        if self._proof:
            self._proof.end()

    async def _leads_without_store(self) -> bool:
        """Ask the node's own Patroni; while it is silent (a restart, say), use its last reply.

        That reply must be from this outage, and PostgreSQL itself must still accept writes.
        """
        asked = self._proof.ask() if self._proof else None
        try:
            node = await self._patroni.node(self._identity.ha_address)
        except PatroniUnreachable:
            leads = self._alone and await self._writable()
        else:
            leads = self._alone = node.primary and node.alone
        if leads and self._proof and asked:
            self._proof.alone(asked)
        return leads

    async def _writable(self) -> bool:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._until_writable()
        except (PostgresUnreachable, TimeoutError):
            return False
        return True

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._pause()):
                await self._changed.wait()
        except TimeoutError:
            return

    def _pause(self) -> float:
        if self._leads:
            return POLL_SECONDS
        return STARTING_SECONDS if self._named else STANDBY_SECONDS

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        watch = run_forever(
            "watch of the leader key", self._watch, _log, report_health=self._report_health
        )
        watching = asyncio.create_task(watch, name="watch the leader key")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:

        async def watch() -> float:
            async with aclosing(self._store.watch(keys.PATRONI_LEADER)) as changes:
                async for events in changes:
                    self._on_event(events[-1])
            return 0.0

        def failed(reason: str) -> None:
            _log.warning("cannot watch the leader key", reason=reason)

        await repeat(watch, POLL_SECONDS, transient=(Compacted, StoreError), failed=failed)

    def _on_event(self, event: Event) -> None:
        """Learn from an event only that another node leads; before leading, read the store."""
        named = read_leader(event.kv.value) if event.type is EventType.PUT else None
        self._lost = named not in {None, self._identity.member}
        if named != self._identity.member:
            self._end_proof()
        self._changed.set()
