"""The writer of the cluster's events, which compares what it observes with the events so far.

The store keeps the last reported state, written in the transaction that writes the events. So a
process that restarts, or a node that takes over, continues where the last one stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing

import msgspec

from openvcha.cluster.findings import health
from openvcha.cluster.findings.address import address_faults
from openvcha.cluster.findings.warnings import find_warnings
from openvcha.cluster.observing.observation import Observation
from openvcha.daemon.keepers.task_events import new_task_events
from openvcha.events.log import MAX_AT_ONCE, EventLog, ReportedAt
from openvcha.events.state_diff import ClusterSnapshot, NodeSnapshot, PrimaryTerm, confirmed, diff
from openvcha.node.process.supervised_loop import HealthReporter, run_forever
from openvcha.store import keys
from openvcha.store.errors import Compacted, StoreError, StoreUnavailable
from openvcha.store.interface import Compare, EventType, KeyValue, Store, value_is
from openvcha.system.repeating import Attempt, repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 4.0
PENDING_SECONDS = 1.0
"""While the last observation shows what is not reported yet, or not certain. So a change is written
as early as with two seconds between all observations, each of which asks every node."""
RETRY_SECONDS = 1.0
SWEEP_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


class EventWatcher:
    """The writer of an event for every change, on the active node. ``member`` is this node.

    ``observe`` observes the cluster; ``holds_address`` returns whether this node has the public
    address.
    """

    def __init__(
        self,
        store: Store,
        events: EventLog,
        member: str,
        observe: Callable[[], Awaitable[Observation]],
        holds_address: Callable[[], bool],
        *,
        report_health: HealthReporter = lambda *_: None,
    ) -> None:
        self._store = store
        self._events = events
        self._member = member
        self._observe = observe
        self._holds_address = holds_address
        self._report_health = report_health
        self._before: ClusterSnapshot | None = None
        self._last: ReportedAt | None = None
        """The last reported state, until somebody may have written another one."""
        self._tasks_written = 0

    async def run(self) -> None:
        """Watch until canceled."""
        self._before, self._last, self._tasks_written = None, None, 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever("cluster events", self._observe_forever))
            group.create_task(self._forever("task events", self._follow_tasks_forever))

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        await run_forever(name, work, _log, report_health=self._report_health)

    async def report_changes(self) -> float:
        """Observe once, and write events for what was seen twice in a row and is not reported yet.

        Return the seconds until the next observation.

        The last reported state is read before observing, so the observation is newer. If another
        process has written events since, this one is discarded and the next one counts.
        """
        last = self._last = self._last or await self._events.last_reported()
        observed = await self._observe()
        now = state_of(observed, self._member if self._holds_address() else None)
        before, self._before = self._before, now
        if before is None:
            return PENDING_SECONDS
        old = last.memory.seen
        new = confirmed(old, before, now)
        if new != old:
            after = msgspec.structs.replace(last.memory, seen=new)
            self._last = None
            await self._events.append(last, after, diff(old, new), self._leads)
        settled = observed.certain and confirmed(new, now, now) == new
        return POLL_SECONDS if settled else PENDING_SECONDS

    async def write_task_events(self, records: Iterable[KeyValue]) -> None:
        """Write the events of tasks that began or ended, each once, in order of revisions."""
        found = list(records)
        while new_task_events(found, self._tasks_written):
            last = await self._events.last_reported()
            self._tasks_written = last.memory.tasks
            news = new_task_events(found, self._tasks_written)[:MAX_AT_ONCE]
            if not news:
                return
            after = msgspec.structs.replace(last.memory, tasks=news[-1].revision)
            self._last = None
            drafts = [each.draft for each in news]
            if not await self._events.append(last, after, drafts, self._leads):
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def _leads(self) -> Compare:
        """Return the condition that this node still leads: only the active writes events."""
        return value_is(keys.PATRONI_LEADER, self._member.encode())

    async def _observe_forever(self) -> None:
        await _repeat_while_available(self.report_changes, POLL_SECONDS)

    async def _follow_tasks_forever(self) -> None:
        await _repeat_while_available(self._follow_tasks, RETRY_SECONDS)

    async def _follow_tasks(self) -> None:
        found = await self._store.snapshot(keys.TASKS)
        await self.write_task_events(found.items)
        async with aclosing(self._store.watch(keys.TASKS, found.revision + 1)) as changes:
            async for batch in changes:
                await self.write_task_events(
                    each.kv for each in batch if each.type is EventType.PUT
                )


def state_of(observed: Observation, address: str | None) -> ClusterSnapshot:
    """Return the state that events report; ``address`` is the holder of the public address."""
    return ClusterSnapshot(
        config_state=observed.config.state,
        mode=observed.config.mode,
        health=health.assess(observed).state if health.deployed(observed) else None,
        nodes={
            node.config.member: NodeSnapshot(node.config.name, health.can_vote(node))
            for node in observed.nodes
        },
        active=observed.active.config.member if observed.active else None,
        address=address,
        reign=_reign(observed),
        in_sync=observed.passive_in_sync,
        threats={
            found.key: found.condition.error
            for found in (*address_faults(observed), *find_warnings(observed))
        },
        dropped_slots={
            node.config.member: facts.postgres.dropped_slots
            for node in observed.nodes
            if (facts := node.report.facts) is not None and facts.postgres is not None
        },
    )


def _reign(observed: Observation) -> PrimaryTerm | None:
    """Return the primary, and since when; None if there is none, or it is unknown."""
    active = observed.active
    patroni = active.patroni if active else None
    if active is None or patroni is None or not patroni.primary or patroni.timeline is None:
        return None
    return PrimaryTerm(
        member=active.config.member, timeline=patroni.timeline, started=patroni.started
    )


async def sweep_forever(*sweeps: Callable[[], Awaitable[int]]) -> None:
    """Delete old records, now and every hour, until canceled."""

    async def sweep_all() -> None:
        for sweep in sweeps:
            try:
                await sweep()
            except StoreError as error:  # a failure does not stop the other sweeps
                _log.info("cannot delete old records now", reason=str(error))

    await repeat(sweep_all, SWEEP_SECONDS)


async def _repeat_while_available(work: Attempt, seconds: float) -> None:
    """Repeat ``work``; if the store is unavailable, or was for too long, only log that."""

    def failed(reason: str) -> None:
        _log.info("cannot record events now", reason=reason)

    await repeat(work, seconds, transient=(Compacted, StoreUnavailable), failed=failed)


async def patrol_forever(patrol: Callable[[], Awaitable[None]]) -> None:
    """Run ``patrol`` until canceled: it checks and reports the records that grant access."""
    await _repeat_while_available(patrol, RETRY_SECONDS)
