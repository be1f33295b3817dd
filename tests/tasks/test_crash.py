"""Killed anywhere and restarted, a task ends, what it creates is consistent, nothing stays held."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from enum import StrEnum
from itertools import pairwise

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import SWEPT, CrashPoint

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import TaskStatus
from openvcha.store import keys
from openvcha.store.errors import Fenced
from openvcha.store.interface import (
    Action,
    Compare,
    Event,
    EventType,
    KeyValue,
    Snapshot,
    Store,
    TxnResult,
    created_at,
)
from openvcha.store.memory import MemoryStore
from openvcha.store.records import decode
from openvcha.tasks.execution import Execution
from openvcha.tasks.journal import Journal
from openvcha.tasks.ledger import TaskWriter
from openvcha.tasks.record import TaskRecord, to_info
from openvcha.tasks.runner import Runner
from openvcha.tasks.steps import Step, TaskContext

pytestmark = SIMULATED

SERVICE = "com.vmware.vcenter.vcha.cluster.passive"
PARTS = ("first half", "second half")
LONGER = 20
"""How many moments more a recovery may have than the undisturbed process, at most."""


class Story(StrEnum):
    """What happens while the task runs."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCEL = "CANCEL"


class Death(StrEnum):
    """Whether the write during which the process dies still reaches the store."""

    BEFORE = "BEFORE"
    AFTER = "AFTER"


class MortalStore:
    """The shared simulated store as one process sees it."""

    def __init__(self, store: MemoryStore, life: CrashPoint) -> None:
        self._store = store
        self._life = life

    async def get(self, key: str) -> KeyValue | None:
        """Read a key."""
        self._life.check()
        return await self._store.get(key)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys."""
        self._life.check()
        return await self._store.get_many(names)

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read keys with a prefix."""
        self._life.check()
        return await self._store.prefix(prefix, keys_only=keys_only)

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read keys with the store's revision."""
        self._life.check()
        return await self._store.snapshot(prefix)

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a key."""
        raise NotImplementedError

    async def delete(self, key: str) -> bool:
        """Delete a key."""
        raise NotImplementedError

    async def delete_prefix(self, prefix: str) -> int:
        """Delete keys with a prefix."""
        raise NotImplementedError

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run a transaction: a moment to die at."""
        await self._life.before()
        result = await self._store.txn(compares, success, failure)
        await self._life.after()
        return result

    async def lease_grant(self, ttl: int) -> int:
        """Grant a lease."""
        self._life.check()
        return await self._store.lease_grant(ttl)

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease."""
        self._life.check()
        return await self._store.lease_keep_alive(lease)

    async def lease_remaining(self, lease: int) -> int:
        """Return how long a lease remains."""
        self._life.check()
        return await self._store.lease_remaining(lease)

    async def lease_revoke(self, lease: int) -> None:
        """Revoke a lease."""
        self._life.check()
        await self._store.lease_revoke(lease)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        """Watch keys."""
        async for events in self._store.watch(target, start_revision):
            self._life.check()
            yield events


class SharedResources:
    """The simulated resources that all processes act on; they outlive them."""

    def __init__(self, story: Story, client: Journal) -> None:
        self.story = story
        self.client = client
        self.there: set[tuple[str, str]] = set()


class Build(Step):
    """Creates two things, one after the other, and can be killed around each."""

    def __init__(
        self, name: str, resources: SharedResources, life: CrashPoint, weight: int = 1
    ) -> None:
        self.name = name
        self.weight = weight
        self._world = resources
        self._life = life

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether both exist."""
        await ctx.progress(0, message("progress.check"))
        return all((self.name, part) in self._world.there for part in PARTS)

    async def act(self, ctx: TaskContext) -> None:
        """Create both."""
        for part in PARTS:
            await self._life.before()
            self._world.there.add((self.name, part))
            await self._life.after()
            await ctx.progress(0.5, message("progress.clone", part))
        await ctx.remember(**{self.name: "made"})

    async def undo(self, ctx: TaskContext) -> None:
        """Delete both."""
        await ctx.progress(1, message("progress.fence", self.name))
        for part in reversed(PARTS):
            await self._life.before()
            self._world.there.discard((self.name, part))
            await self._life.after()


class Turn(Build):
    """Creates its things; then the story happens."""

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether both exist, if the story allows that."""
        return self._world.story is Story.SUCCESS and await super().done(ctx)

    async def act(self, ctx: TaskContext) -> None:
        """Create both, then fail or request a cancellation."""
        await super().act(ctx)
        if self._world.story is Story.FAILURE:
            raise ApiError(ErrorType.ERROR, message("wait.timeout", "1"))
        if self._world.story is Story.CANCEL:
            await self._world.client.request_cancel(ctx.record.id)
            await ctx.pause(3600)


class Final(Build):
    """A step that must not be interrupted."""

    cancelable = False


def plan(resources: SharedResources, life: CrashPoint) -> list[Step]:
    """Return three steps of different weight."""
    return [
        Build("a", resources, life),
        Turn("b", resources, life, 5),
        Final("c", resources, life, 2),
    ]


class CrashScenario:
    """A store with one task in it, resources, and processes that start and die."""

    def __init__(self, story: Story) -> None:
        self.store = MemoryStore()
        self.journal = Journal(self.store)
        self.world = SharedResources(story, self.journal)
        self.task = ""

    async def begin(self) -> None:
        """Create the task."""
        record = await self.journal.create(
            service=SERVICE,
            operation="redeploy$task",
            description=message("passive.redeploy"),
            user="root",
        )
        self.task = record.id

    async def live(self, life: CrashPoint) -> None:
        """Run one process until it dies or the task has ended."""
        store: Store = MortalStore(self.store, life)
        plans = {f"{SERVICE}.redeploy": lambda _: plan(self.world, life)}
        works = [
            asyncio.create_task(Runner(store, Journal(store), plans).run()),
            asyncio.create_task(life.died.wait()),
            asyncio.create_task(self._ended()),
        ]
        async with asyncio.timeout(600):
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for work in works:
            work.cancel()
        await asyncio.wait(works)

    async def _ended(self) -> None:
        async for _ in self.journal.watch(self.task):
            pass

    async def validate(self) -> None:
        """Check the end, and every state that a caller could have seen on the way."""
        versions = self._versions()
        last, revision = versions[-1]
        wanted = TaskStatus.SUCCEEDED if self.world.story is Story.SUCCESS else TaskStatus.FAILED
        assert last.status is wanted
        assert len(self.world.there) == (6 if wanted is TaskStatus.SUCCEEDED else 0)
        assert last.error is None or last.error.error_type is self._error()
        assert self._freed() == [revision]
        assert not any(record.finished for record, _ in versions[:-1])
        completed = [record.progress.completed for record, _ in versions]
        assert completed == sorted(completed)
        assert (completed[-1] == 100) == (wanted is TaskStatus.SUCCEEDED)
        for (record, _), (later, _) in pairwise(versions):
            check_union(record)
            assert record.error is None or set(later.started) <= set(record.started)

    def _error(self) -> ErrorType:
        return ErrorType.CANCELED if self.world.story is Story.CANCEL else ErrorType.ERROR

    def _versions(self) -> list[tuple[TaskRecord, int]]:
        return [
            (decode(event.kv, TaskRecord), event.kv.mod_revision)
            for event in self.store._history
            if event.kv.key == keys.task(self.task)
        ]

    def _freed(self) -> list[int]:
        return [
            event.kv.mod_revision
            for event in self.store._history
            if event.kv.key == keys.OPERATION and event.type is EventType.DELETE
        ]


def check_union(record: TaskRecord) -> None:
    """Check which fields are set for the status, as clients do."""
    info = to_info(record)
    assert info.union is not None
    case = info.union.cases[info.status.value]
    for name in {field for fields in info.union.cases.values() for field in fields}:
        value = getattr(info, name)
        assert value is not None or not case.get(name, False), f"{name} is missing"
        assert value is None or name in case, f"{name} must not be set"


async def moments(story: Story) -> int:
    """Return the number of moments of an undisturbed process."""
    scenario, life = CrashScenario(story), CrashPoint()
    await scenario.begin()
    await scenario.live(life)
    await scenario.validate()
    return life.moments


@pytest.mark.parametrize("story", Story)
@pytest.mark.parametrize("death", Death)
async def test_killed_anywhere_the_task_is_carried_to_its_end(story: Story, death: Death) -> None:
    """Whenever the runner dies, the next one ends the task and leaves nothing half done."""
    total = await moments(story)
    assert total > 15
    for dies_at in range(1, total + 1):
        scenario, life = CrashScenario(story), CrashPoint(dies_at, after=death is Death.AFTER)
        await scenario.begin()
        await scenario.live(life)
        assert life.died.is_set()
        await scenario.live(CrashPoint())
        await scenario.validate()


@SWEPT
@pytest.mark.parametrize("story", Story)
async def test_killed_twice_the_task_is_carried_to_its_end(story: Story, stride: int) -> None:
    """A second death, at any moment of the recovery, changes nothing about that."""
    total, deaths = await moments(story), 0
    for first in range(1, total + 1, stride):
        for second in range(1, total + LONGER, 2):
            scenario = CrashScenario(story)
            await scenario.begin()
            dying, recovering = CrashPoint(first, after=True), CrashPoint(second)
            await scenario.live(dying)
            assert dying.died.is_set()
            await scenario.live(recovering)
            await scenario.live(CrashPoint())
            await scenario.validate()
            if not recovering.died.is_set():  # the recovery has fewer moments
                break
            deaths += 1
        else:
            raise AssertionError("the recovery never ended: a later moment was not tried")
    assert deaths > total // stride


class Usurped(MortalStore):
    """A store on which another runner takes over at the n-th moment."""

    def __init__(self, store: MemoryStore, at: int) -> None:
        super().__init__(store, CrashPoint())
        self._remaining = at
        self.taken_at: int | None = None

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run a transaction, after the takeover when it is due."""
        self._remaining -= 1
        if not self._remaining:
            await self._store.delete(keys.RUNNER)
            self.taken_at = await self._store.put(keys.RUNNER, b"another")
        return await super().txn(compares, success, failure)


@pytest.mark.parametrize("story", [Story.SUCCESS, Story.FAILURE])
async def test_a_superseded_runner_writes_nothing_more(story: Story) -> None:
    """A runner that lost its key without noticing stops at its next write, which fails."""
    at = 1
    while (await usurped(story, at)).taken_at is not None:
        at += 1
    assert at > 10


async def usurped(story: Story, at: int) -> Usurped:
    """Carry out a task until another runner takes over at this moment, if it is reached."""
    scenario = CrashScenario(story)
    await scenario.begin()
    store = Usurped(scenario.store, at)
    token = await scenario.store.put(keys.RUNNER, b"one")
    ledger = TaskWriter(store, created_at(keys.RUNNER, token))
    context = TaskContext(ledger, await scenario.journal.read(scenario.task))
    steps = plan(scenario.world, CrashPoint())
    run = Execution(ledger, context, steps, scenario.journal.clock).run()
    if at > 100:
        pytest.fail("it never came to its end")
    try:
        await run
    except Fenced:
        assert store.taken_at is not None
        assert scenario._versions()[-1][1] < store.taken_at
        assert await scenario.store.get(keys.OPERATION)
    else:
        assert store.taken_at is None
    return store
