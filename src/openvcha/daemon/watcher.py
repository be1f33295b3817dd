"""Tells what happens to the cluster: looks, compares with what was told, writes events.

What is told is remembered in the store, in the transaction that writes the events. So a process
that starts anew, and a node that takes over, goes on where the last one stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing

import msgspec

from openvcha.cluster import health
from openvcha.cluster.observation import Observation
from openvcha.cluster.warnings import threats
from openvcha.daemon.task_events import task_news
from openvcha.events.log import MAX_AT_ONCE, EventLog
from openvcha.events.state_diff import Reign, Seen, SeenNode, diff, remember
from openvcha.node.process.supervised_loop import Told, for_ever
from openvcha.store import keys
from openvcha.store.errors import Compacted, StoreError, StoreUnavailable
from openvcha.store.interface import Compare, EventType, KeyValue, Store, value_is
from openvcha.store.structlog_light import structlog

LOOK_SECONDS = 2.0
RETRY_SECONDS = 1.0
SWEEP_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


class Watcher:
    """What the active does so that nothing happens untold. ``member`` is this node.

    ``observe`` looks at the cluster; ``holds_address`` says whether this node has the public one.
    """

    def __init__(
        self,
        store: Store,
        events: EventLog,
        member: str,
        observe: Callable[[], Awaitable[Observation]],
        holds_address: Callable[[], bool],
        *,
        told: Told = lambda *_: None,
    ) -> None:
        self._store = store
        self._events = events
        self._member = member
        self._observe = observe
        self._holds_address = holds_address
        self._told = told
        self._before: Seen | None = None
        self._tasks_told = 0

    async def run(self) -> None:
        """Watch until canceled."""
        self._before, self._tasks_told = None, 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._always("events of the cluster", self._look_always))
            group.create_task(self._always("events of tasks", self._follow_tasks_always))

    async def _always(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        await for_ever(name, work, _log, told=self._told)

    async def look(self) -> None:
        """Look once, and tell what was seen twice in a row and is not told yet.

        What was told is read first: so what is seen is newer, whoever told it. Where another one
        tells something meanwhile, this look is void and the next one counts.
        """
        told = await self._events.remembered()
        now = seen(await self._observe(), self._member if self._holds_address() else None)
        before, self._before = self._before, now
        if before is None:
            return
        old = told.memory.seen
        new = remember(old, before, now)
        if new != old:
            after = msgspec.structs.replace(told.memory, seen=new)
            await self._events.tell(told, after, diff(old, new), self._leads)

    async def tell_tasks(self, records: Iterable[KeyValue]) -> None:
        """Write which tasks have begun and ended, by the store's revisions, each once."""
        found = list(records)
        while task_news(found, self._tasks_told):
            told = await self._events.remembered()
            self._tasks_told = told.memory.tasks
            news = task_news(found, self._tasks_told)[:MAX_AT_ONCE]
            if not news:
                return
            after = msgspec.structs.replace(told.memory, tasks=news[-1].revision)
            drafts = [each.draft for each in news]
            if not await self._events.tell(told, after, drafts, self._leads):
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def _leads(self) -> Compare:
        """Require that this node leads still: only the active tells."""
        return value_is(keys.PATRONI_LEADER, self._member.encode())

    async def _look_always(self) -> None:
        while True:
            await _unless_away(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    async def _follow_tasks_always(self) -> None:
        while True:
            await _unless_away(self._follow_tasks)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_tasks(self) -> None:
        found = await self._store.snapshot(keys.TASKS)
        await self.tell_tasks(found.items)
        async with aclosing(self._store.watch(keys.TASKS, found.revision + 1)) as changes:
            async for batch in changes:
                await self.tell_tasks(each.kv for each in batch if each.type is EventType.PUT)


def seen(observed: Observation, address: str | None) -> Seen:
    """Return what events speak of in a look; ``address`` is who holds the public one, if known."""
    return Seen(
        config_state=observed.config.state,
        mode=observed.config.mode,
        health=health.assess(observed).state if health.deployed(observed) else None,
        nodes={
            node.config.member: SeenNode(node.config.name, health.votes(node))
            for node in observed.nodes
        },
        active=observed.active.config.member if observed.active else None,
        address=address,
        reign=_reign(observed),
        in_sync=observed.passive_in_sync,
        threats={found.key: found.condition.error for found in threats(observed)},
    )


def _reign(observed: Observation) -> Reign | None:
    """Read who is the primary, and since when; None while that is nobody, or not known."""
    active = observed.active
    patroni = active.patroni if active else None
    if active is None or patroni is None or not patroni.primary or patroni.timeline is None:
        return None
    return Reign(member=active.config.member, timeline=patroni.timeline, started=patroni.started)


async def sweep_always(*sweeps: Callable[[], Awaitable[int]]) -> None:
    """Forget what is too old, now and every hour, until canceled."""
    while True:
        for sweep in sweeps:
            try:
                await sweep()
            except StoreError as error:
                _log.info("cannot delete old records now", reason=str(error))
        await asyncio.sleep(SWEEP_SECONDS)


async def _unless_away(work: Callable[[], Awaitable[None]]) -> None:
    """Do it; that the store is away, or was for long, is no fault of ours."""
    try:
        await work()
    except (Compacted, StoreUnavailable) as error:
        _log.info("cannot record events now", reason=str(error))


async def patrol_always(patrol: Callable[[], Awaitable[None]]) -> None:
    """Check the records that say who may do what, until canceled: what is wrong is told."""
    while True:
        await _unless_away(patrol)
        await asyncio.sleep(RETRY_SECONDS)
