"""The runner: step order, progress, retries, cancelling, undo, ends, retention, succession."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import structlog
from tests.support.simulated.clock import SIMULATED

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import LocalizableMessage, TaskStatus
from openvcha.store import keys
from openvcha.store.errors import Fenced, StoreUnavailable
from openvcha.store.interface import KeyValue, Snapshot
from openvcha.store.memory import MemoryStore
from openvcha.store.records import decode, encode
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.runner import SWEEP_SECONDS, Plan, Runner
from openvcha.tasks.steps import Step, TaskContext, TemporaryFailure

pytestmark = SIMULATED

PASSIVE = "com.vmware.vcenter.vcha.cluster.passive"
REDEPLOY = f"{PASSIVE}.redeploy"

Act = Callable[[TaskContext], Awaitable[None]]


async def nothing(_: TaskContext) -> None:
    """Do nothing."""


@dataclass
class HealthReporter(Step):
    """A step that does as scripted and records when."""

    name: str
    log: list[str]
    doing: Act = nothing
    undoing: Act = nothing
    weight: int = 1
    cancelable: bool = True
    patience: float = 60.0
    limit: float | None = None
    holds: bool = False

    async def done(self, ctx: TaskContext) -> bool:
        """Return the scripted value."""
        assert ctx.record.status is TaskStatus.RUNNING
        return self.holds

    async def act(self, ctx: TaskContext) -> None:
        """Record it, then act as scripted."""
        self.log.append(self.name)
        await self.doing(ctx)

    async def undo(self, ctx: TaskContext) -> None:
        """Record it, then act as scripted."""
        self.log.append(f"-{self.name}")
        await self.undoing(ctx)


class Weak(MemoryStore):
    """Simulated: a store that can be away."""

    away = False

    async def get(self, key: str) -> KeyValue | None:
        """Read, unless away."""
        if self.away:
            raise StoreUnavailable("away")
        return await super().get(key)


@dataclass
class RunnerHarness:
    """A store, a journal and a clock that follows the loop's."""

    store: Weak = field(default_factory=Weak)
    log: list[str] = field(default_factory=list)
    start: datetime = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time by the loop's clock."""
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())

    @property
    def journal(self) -> Journal:
        """Return a journal."""
        return Journal(self.store, self.now)

    def step(
        self, name: str, doing: Act = nothing, undoing: Act = nothing, **told: Any
    ) -> HealthReporter:
        """Return a step that writes to the log."""
        return HealthReporter(name, self.log, doing, undoing, **told)

    async def make(self, **values: Any) -> str:
        """Create a task."""
        given: dict[str, Any] = {
            "service": PASSIVE,
            "operation": "redeploy$task",
            "description": message("passive.redeploy"),
            "user": "root",
        }
        return (await self.journal.create(**(given | values))).id

    @asynccontextmanager
    async def runner(
        self, *steps: Step, plans: dict[str, Plan] | None = None
    ) -> AsyncIterator[Any]:
        """Run a runner during a block."""
        plans = {REDEPLOY: lambda _: steps} if plans is None else plans
        running = asyncio.create_task(Runner(self.store, self.journal, plans).run())
        try:
            yield running
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def until(self, task: str, holds: Callable[[TaskRecord], bool]) -> TaskRecord:
        """Wait until a condition holds for a task."""
        async with asyncio.timeout(3600):
            async for record in self.journal.watch(task):
                if holds(record):
                    return record
        raise AssertionError("the task ended first")

    async def ended(self, task: str) -> TaskRecord:
        """Wait for the end of a task, and check that the operation is free."""
        record = await self.until(task, lambda record: record.finished)
        assert await self.store.get(keys.OPERATION) is None
        return record

    async def carry_out(self, *steps: Step, **values: Any) -> TaskRecord:
        """Create a task of these steps and carry it out to its end."""
        task = await self.make(**values)
        async with self.runner(*steps):
            return await self.ended(task)

    def states(self, task: str) -> list[TaskRecord]:
        """Return all states that a task has had."""
        history = self.store._history
        return [
            decode(event.kv, TaskRecord) for event in history if event.kv.key == keys.task(task)
        ]


@pytest.fixture
def harness() -> RunnerHarness:
    """Return a runner with an empty store."""
    return RunnerHarness()


def raising(error: Exception) -> Act:
    """Return an action that fails."""

    async def act(_: TaskContext) -> None:
        raise error

    return act


def reasons(record: TaskRecord) -> tuple[ErrorType | None, list[str]]:
    """Return the type of a task's error and the ends of its messages' ids."""
    if record.error is None:
        return None, []
    ids = [text.id.removeprefix("com.vmware.vcenter.vcha.") for text in record.error.messages]
    return record.error.error_type, ids


BAD = ApiError(ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, message("wait.timeout", "1"))


async def test_steps_run_in_order_to_success(harness: RunnerHarness) -> None:
    """When every step succeeds the task has SUCCEEDED, is at its total and has both times."""
    record = await harness.carry_out(*(harness.step(name) for name in "abc"))
    assert harness.log == ["a", "b", "c"]
    assert record.status is TaskStatus.SUCCEEDED
    assert (record.progress.completed, record.progress.total) == (100, 100)
    assert record.start_time is not None
    assert record.end_time is not None
    assert not record.cancelable


async def test_what_is_already_so_is_skipped_and_never_undone(harness: RunnerHarness) -> None:
    """A step whose postcondition holds from the start is neither acted nor undone."""
    steps = harness.step("a", holds=True), harness.step("b"), harness.step("c", raising(BAD))
    await harness.carry_out(*steps)
    assert harness.log == ["b", "c", "-c", "-b"]


async def test_a_plan_without_steps_succeeds(harness: RunnerHarness) -> None:
    """An empty plan is complete."""
    assert (await harness.carry_out()).status is TaskStatus.SUCCEEDED


async def test_a_task_made_later_starts_at_once(harness: RunnerHarness) -> None:
    """An idle runner notices a new task at once, not at its next check."""
    async with harness.runner(harness.step("a")):
        await asyncio.sleep(1000)
        before = asyncio.get_running_loop().time()
        await harness.ended(await harness.make())
        assert asyncio.get_running_loop().time() == before


class Eventful(Weak):
    """Simulated: something happens right after the first read of all tasks that finds none."""

    happening: Callable[[], Awaitable[Any]] | None = None

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read, then let it happen."""
        seen = await super().snapshot(prefix)
        if prefix == keys.TASKS and self.happening is not None:
            happening, self.happening = self.happening, None
            await happening()
        return seen


async def test_a_task_made_between_look_and_watch_is_not_missed() -> None:
    """The runner watches from the revision of its read, so nothing falls in between."""
    store = Eventful()
    harness = RunnerHarness(store)
    made: list[str] = []

    async def happening() -> None:
        made.append(await harness.make())

    store.happening = happening
    async with harness.runner(harness.step("a")):
        await asyncio.sleep(1)
        assert harness.log == ["a"]
        await harness.ended(made[0])


async def test_progress_follows_the_weights(harness: RunnerHarness) -> None:
    """A step's own share counts by its weight; the message is the one given."""
    text = message("progress.clone", "b")
    reached: list[int] = []

    async def half(ctx: TaskContext) -> None:
        for fraction in (0.5, 0.25, 7.0):
            await ctx.progress(fraction, text)
            reached.append(ctx.record.progress.completed)
        assert ctx.record.progress.message == text

    await harness.carry_out(harness.step("a"), harness.step("b", half, weight=3))
    assert reached == [62, 62, 99]


async def test_what_changes_nothing_is_not_written(harness: RunnerHarness) -> None:
    """The same progress reported a thousand times is one write."""

    async def same(ctx: TaskContext) -> None:
        text = message("progress.check")
        await ctx.progress(0.1, text)
        before = harness.store.revision
        for _ in range(1000):
            await ctx.progress(0.1, text)
        assert harness.store.revision == before

    assert (await harness.carry_out(harness.step("a", same))).status is TaskStatus.SUCCEEDED


async def test_what_is_remembered_is_there_for_later_steps(harness: RunnerHarness) -> None:
    """State is durable when `remember` returns, and changes in no other way."""

    async def first(ctx: TaskContext) -> None:
        await ctx.remember(node={"vm": "vm-42"})
        assert (await harness.journal.read(ctx.record.id)).state == {"node": {"vm": "vm-42"}}
        with pytest.raises(TypeError):
            ctx.state["node"] = None  # type: ignore[index]  # that it cannot be is the point

    async def second(ctx: TaskContext) -> None:
        assert ctx.state["node"]["vm"] == "vm-42"
        await ctx.result({"vm": "vm-42"})

    record = await harness.carry_out(harness.step("a", first), harness.step("b", second))
    assert record.result == {"vm": "vm-42"}


async def test_a_failure_undoes_backwards_and_says_why(harness: RunnerHarness) -> None:
    """The error of the step is the task's; completed steps are undone, the failed step first."""
    steps = harness.step("a"), harness.step("b"), harness.step("c", raising(BAD)), harness.step("d")
    record = await harness.carry_out(*steps)
    assert harness.log == ["a", "b", "c", "-c", "-b", "-a"]
    assert record.status is TaskStatus.FAILED
    assert record.error is not None
    assert record.error.to_error() == BAD
    assert record.progress.completed < 100


async def test_an_undo_that_fails_does_not_stop_the_others(harness: RunnerHarness) -> None:
    """A failed undo is reported after the first error, with its cause; the task ends."""
    other = ApiError(ErrorType.ERROR, message("copy.failed", "b", "x"))
    steps = (
        harness.step("a"),
        harness.step("b", nothing, raising(other)),
        harness.step("c", raising(BAD)),
    )
    record = await harness.carry_out(*steps)
    assert harness.log == ["a", "b", "c", "-c", "-b", "-a"]
    ids = ["wait.timeout", "task.undo.failed", "copy.failed", "task.left"]
    assert reasons(record) == (ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, ids)


@pytest.mark.parametrize("heals", [True, False])
async def test_an_undo_that_failed_is_tried_again_by_the_next_runner(
    harness: RunnerHarness, heals: bool
) -> None:
    """What works then is no longer listed; a repeated failure is reported once."""
    fails = raising(ApiError(ErrorType.ERROR, message("copy.failed", "b", "x")))
    begun = asyncio.Event()

    async def hang(_: TaskContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = await harness.make()
    async with harness.runner(
        harness.step("a", nothing, hang), harness.step("b", raising(BAD), fails)
    ):
        await begun.wait()
    again = harness.step("b", raising(BAD), nothing if heals else fails)
    async with harness.runner(harness.step("a"), again):
        record = await harness.ended(task)
    ids = ["wait.timeout", "task.undo.failed", "copy.failed", *([] if heals else ["task.left"])]
    assert reasons(record)[1] == ids


@pytest.mark.parametrize("known", [True, False])
async def test_what_a_failed_undo_has_left_is_named(harness: RunnerHarness, known: bool) -> None:
    """By the step; where that fails, only its name is reported."""

    class Leaving(HealthReporter):
        async def remains(self, ctx: TaskContext) -> LocalizableMessage:
            """Return it, or fail."""
            assert ctx.record.started == (self.name,)
            if not known:
                raise StoreUnavailable("away")
            return message("clone.left", "b", "vm-1")

    record = await harness.carry_out(Leaving("a", harness.log, raising(BAD), raising(BAD)))
    ids = ["wait.timeout", "task.undo.failed", "wait.timeout", *(["clone.left"] if known else [])]
    assert reasons(record)[1] == [*ids, "task.left"]


async def test_an_unexpected_exception_is_only_in_the_log(harness: RunnerHarness) -> None:
    """The record shows an operation id that is in the log, and nothing of the exception."""
    with structlog.testing.capture_logs() as logs:
        record = await harness.carry_out(harness.step("a", raising(RuntimeError("hunter2"))))
    assert reasons(record) == (ErrorType.INTERNAL_SERVER_ERROR, ["internal.error"])
    assert record.error is not None
    (incident,) = record.error.messages[0].args
    assert [entry["incident"] for entry in logs if "incident" in entry] == [incident]
    assert b"hunter2" not in encode(record)


@pytest.mark.parametrize("where", ["act", "undo"])
async def test_a_file_that_cannot_be_worked_on_is_named(harness: RunnerHarness, where: str) -> None:
    """An error of the machine is not internal: the file and the reason say what to do."""
    refusal = raising(PermissionError(1, "Operation not permitted", "/srv/node/pgdata/1"))
    step = (refusal,) if where == "act" else (raising(BAD), refusal)
    record = await harness.carry_out(harness.step("a", *step))
    kind, ids = reasons(record)
    assert "internal.error" not in ids
    assert "file.refused" in ids
    assert kind is (ErrorType.ERROR if where == "act" else BAD.error_type)
    assert record.error is not None
    assert "/srv/node/pgdata/1" in str(record.error.messages)


async def test_a_secret_in_the_state_is_refused(harness: RunnerHarness) -> None:
    """A step that would store a secret fails, and nothing of it is written."""

    async def leak(ctx: TaskContext) -> None:
        await ctx.remember(password=Secret("hunter2"))

    record = await harness.carry_out(harness.step("a", leak))
    assert reasons(record)[0] is ErrorType.INTERNAL_SERVER_ERROR
    assert record.state == {}


@dataclass
class Failing:
    """An action that fails some times, then works."""

    errors: list[Exception]
    times: list[float] = field(default_factory=list)

    async def __call__(self, _: TaskContext) -> None:
        """Fail while there is an error left."""
        self.times.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize(
    "error",
    [
        TemporaryFailure(message("fence.powered.on", "b")),
        StoreUnavailable("no quorum"),
        OSError(28, "No space left on device", "/srv/node/x"),
    ],
)
async def test_what_may_pass_is_tried_again_later_and_later(
    harness: RunnerHarness, error: Exception
) -> None:
    """A temporary failure is retried with growing pauses, and its reason is shown."""
    failing = Failing([error] * 5)
    task = await harness.make()
    async with harness.runner(harness.step("a", failing)):
        assert (await harness.ended(task)).status is TaskStatus.SUCCEEDED
    pauses = [b - a for a, b in zip(failing.times, failing.times[1:], strict=False)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    shown = {record.progress.message.id.rsplit("vcha.")[-1] for record in harness.states(task)}
    assert shown & {"fence.powered.on", "store.unavailable", "file.full"}


async def test_patience_ends(harness: RunnerHarness) -> None:
    """A failure that outlasts the step's limit for retries is TIMED_OUT with the last reason."""
    failing = Failing([TemporaryFailure(message("fence.powered.on", "b"))] * 100)
    started = harness.now()
    record = await harness.carry_out(harness.step("a", failing, patience=30))
    ids = ["task.step.patience", "fence.powered.on"]
    assert reasons(record) == (ErrorType.TIMED_OUT, ids)
    assert record.end_time is not None
    assert timedelta(seconds=20) < record.end_time - started <= timedelta(seconds=30)


async def test_a_step_has_a_limit(harness: RunnerHarness) -> None:
    """A step that hangs is interrupted at its time limit, and undone."""

    async def hang(_: TaskContext) -> None:
        await asyncio.Event().wait()

    record = await harness.carry_out(harness.step("a", hang, limit=40))
    assert reasons(record) == (ErrorType.TIMED_OUT, ["task.step.limit"])
    assert harness.log == ["a", "-a"]


async def test_an_undo_is_patient_too(harness: RunnerHarness) -> None:
    """A temporary failure of an undo is retried; one that hangs ends at the limit."""
    patient = Failing([TemporaryFailure(message("fence.powered.on", "b"))] * 3)

    async def hang(_: TaskContext) -> None:
        await asyncio.Event().wait()

    steps = harness.step("a", nothing, patient), harness.step("b", raising(BAD), hang, limit=9)
    record = await harness.carry_out(*steps)
    ids = ["wait.timeout", "task.undo.failed", "task.step.limit", "task.left"]
    assert reasons(record)[1] == ids
    assert len(patient.times) == 4


async def waits(ctx: TaskContext) -> None:
    """Wait for ever, at a safe point."""
    await ctx.pause(100_000)


async def test_a_cancel_is_noticed_at_once_and_undone(harness: RunnerHarness) -> None:
    """A waiting step stops at once; the task has FAILED with CANCELED."""
    task = await harness.make()
    async with harness.runner(harness.step("a"), harness.step("b", waits), harness.step("c")):
        await harness.until(task, lambda record: record.step == "b")
        await asyncio.sleep(100)
        asked = harness.now()
        await harness.journal.request_cancel(task)
        record = await harness.ended(task)
    assert reasons(record) == (ErrorType.CANCELED, ["task.canceled"])
    assert harness.log == ["a", "b", "-b", "-a"]
    assert record.end_time == asked


async def test_a_step_without_safe_points_is_finished_first(harness: RunnerHarness) -> None:
    """Cancelling takes effect where the step allows it: here after it, before the next."""

    async def busy(ctx: TaskContext) -> None:
        await harness.journal.request_cancel(ctx.record.id)
        await asyncio.sleep(10)
        harness.log.append("still")

    record = await harness.carry_out(harness.step("a", busy), harness.step("b"))
    assert harness.log == ["a", "still", "-a"]
    assert reasons(record)[0] is ErrorType.CANCELED


async def test_a_cancel_that_was_accepted_in_the_last_step_counts(harness: RunnerHarness) -> None:
    """A task whose cancellation was accepted never succeeds."""

    async def asked(ctx: TaskContext) -> None:
        await harness.journal.request_cancel(ctx.record.id)

    record = await harness.carry_out(harness.step("a", asked))
    assert reasons(record)[0] is ErrorType.CANCELED


async def test_a_step_that_must_not_be_interrupted_is_not(harness: RunnerHarness) -> None:
    """While it acts cancelling is refused, and callers can see that."""

    async def asked(ctx: TaskContext) -> None:
        assert not (await harness.journal.get(ctx.record.id)).cancelable
        with pytest.raises(ApiError) as caught:
            await harness.journal.request_cancel(ctx.record.id)
        assert caught.value.error_type is ErrorType.UNSUPPORTED

    steps = harness.step("a"), harness.step("b", asked, cancelable=False), harness.step("c")
    record = await harness.carry_out(*steps)
    assert record.status is TaskStatus.SUCCEEDED
    states = harness.states(record.id)
    assert {state.cancelable for state in states if state.step == "c" and not state.finished} == {
        True
    }


async def test_an_operation_that_cannot_be_canceled_never_is(harness: RunnerHarness) -> None:
    """If the operation does not permit it no step makes it possible."""
    record = await harness.carry_out(harness.step("a"), cancelable=False)
    assert not any(state.cancelable for state in harness.states(record.id))


async def test_a_task_canceled_before_it_began_has_done_nothing(harness: RunnerHarness) -> None:
    """It ends with progress and both times, as clients expect of every task that ended."""
    task = await harness.make()
    await harness.journal.request_cancel(task)
    async with harness.runner(harness.step("a")):
        record = await harness.ended(task)
    assert harness.log == []
    assert reasons(record)[0] is ErrorType.CANCELED
    begun = [state for state in harness.states(task) if state.status is not TaskStatus.PENDING]
    assert all(state.start_time is not None for state in begun)
    assert record.end_time is not None


async def test_interruptible_work_cleans_up_before_the_undo(harness: RunnerHarness) -> None:
    """What runs when a cancel arrives is stopped first, then the steps are undone."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            harness.log.append("cleaned")

    async def act(ctx: TaskContext) -> None:
        await ctx.interruptible(work())

    task = await harness.make()
    async with harness.runner(harness.step("a", act)):
        await harness.until(task, lambda record: record.step == "a")
        await harness.journal.request_cancel(task)
        await harness.ended(task)
    assert harness.log == ["a", "cleaned", "-a"]


async def test_an_operation_that_nobody_knows_ends(harness: RunnerHarness) -> None:
    """A task of another version ends FAILED with that reason, instead of holding the operation."""
    task = await harness.make()
    async with harness.runner(plans={}):
        record = await harness.ended(task)
    assert reasons(record) == (ErrorType.ERROR, ["task.plan.unknown"])
    assert record.start_time is not None


async def test_what_an_unknown_operation_had_begun_is_named(harness: RunnerHarness) -> None:
    """Its error lists the steps that are not undone."""
    task = await harness.make()
    begun = msgspec.structs.replace(await harness.journal.read(task), started=("clone", "copy"))
    await harness.store.put(keys.task(task), encode(begun))
    async with harness.runner(plans={}):
        record = await harness.ended(task)
    assert reasons(record)[1] == ["task.plan.unknown", "task.left"]


async def test_a_started_step_that_is_gone_is_named(harness: RunnerHarness) -> None:
    """A step that this version's plan lacks is listed among those not undone."""
    task = await harness.make()
    begun = msgspec.structs.replace(await harness.journal.read(task), started=("old",))
    await harness.store.put(keys.task(task), encode(begun))
    async with harness.runner(harness.step("a", raising(BAD))):
        record = await harness.ended(task)
    assert harness.log == ["a", "-a"]
    assert reasons(record)[1] == ["wait.timeout", "task.undo.unknown", "task.left"]


def broken_plan(_: TaskRecord) -> list[Step]:
    """Raise instead of returning a plan."""
    raise KeyError("hunter2")


def ambiguous_plan(_: TaskRecord) -> list[Step]:
    """Return two steps with the same name."""
    return [HealthReporter("a", []), HealthReporter("a", [])]


@pytest.mark.parametrize("plan", [broken_plan, ambiguous_plan])
async def test_a_plan_that_breaks_ends_its_task(harness: RunnerHarness, plan: Plan) -> None:
    """No error in a plan holds the operation for ever."""
    task = await harness.make()
    async with harness.runner(plans={REDEPLOY: plan}):
        record = await harness.ended(task)
    assert reasons(record) == (ErrorType.INTERNAL_SERVER_ERROR, ["internal.error"])


async def test_an_own_condition_that_fails_is_an_error_like_any(harness: RunnerHarness) -> None:
    """A step's Fenced about something else does not make the runner think it was superseded."""
    record = await harness.carry_out(harness.step("a", raising(Fenced("something of the step's"))))
    assert reasons(record)[0] is ErrorType.INTERNAL_SERVER_ERROR


async def test_a_step_can_fence_its_own_writes(harness: RunnerHarness) -> None:
    """The guard holds as long as the runner holds its key, and no longer."""

    async def act(ctx: TaskContext) -> None:
        assert (await harness.store.txn([ctx.guard], [])).succeeded
        if harness.log != ["a"]:
            return
        await harness.store.delete(keys.RUNNER)
        assert not (await harness.store.txn([ctx.guard], [])).succeeded

    assert (await harness.carry_out(harness.step("a", act))).status is TaskStatus.SUCCEEDED


async def test_a_task_waits_while_the_store_is_away(harness: RunnerHarness) -> None:
    """A short store outage is not a failure: the task goes on when it is back."""

    async def away(ctx: TaskContext) -> None:
        harness.store.away = True
        asyncio.get_running_loop().call_later(2, setattr, harness.store, "away", False)
        await ctx.remember(a=1)

    record = await harness.carry_out(harness.step("a", away))
    assert record.status is TaskStatus.SUCCEEDED
    assert record.state == {"a": 1}


async def test_another_runner_goes_on_when_one_goes(harness: RunnerHarness) -> None:
    """A runner that is stopped leaves its task RUNNING, and the next continues it at once."""
    task = await harness.make()
    async with harness.runner(harness.step("a"), harness.step("b", waits)):
        await harness.until(task, lambda record: record.step == "b")
    assert (await harness.journal.read(task)).status is TaskStatus.RUNNING
    async with harness.runner(harness.step("a", holds=True), harness.step("b")):
        assert (await harness.ended(task)).status is TaskStatus.SUCCEEDED
    assert harness.log == ["a", "b", "b"]


async def test_two_runners_never_work_together(harness: RunnerHarness) -> None:
    """The second one waits as long as the first one holds the key."""
    async with harness.runner(harness.step("a")) as first, harness.runner(harness.step("a")):
        for _ in range(3):
            await harness.ended(await harness.make())
        first_log = list(harness.log)
        assert not first.done()
    assert first_log == ["a", "a", "a"]


async def test_a_runner_that_lost_its_key_begins_anew(harness: RunnerHarness) -> None:
    """After its key was deleted it stops its work, campaigns again and goes on."""
    task = await harness.make()
    async with harness.runner(harness.step("a", waits)):
        await harness.until(task, lambda record: record.step == "a")
        await harness.store.delete(keys.RUNNER)
        await asyncio.sleep(30)
        assert await harness.store.get(keys.RUNNER)
        assert harness.log == ["a", "a"]
        await harness.journal.request_cancel(task)
        await harness.ended(task)


async def test_old_tasks_are_swept(harness: RunnerHarness) -> None:
    """A task is retained for 30 days after its end and deleted at the next hourly sweep."""
    async with harness.runner(harness.step("a")):
        old = await harness.make()
        await harness.ended(old)
        harness.start += timedelta(days=30, minutes=-1)
        young = await harness.make()
        await harness.ended(young)
        assert (await harness.journal.read(old)).finished
        await asyncio.sleep(SWEEP_SECONDS + 61)
        left = await harness.store.prefix(keys.TASKS)
        assert [kv.key for kv in left] == [keys.task(young)]


async def test_old_tasks_are_swept_at_the_start(harness: RunnerHarness) -> None:
    """A runner that starts after a long pause does not wait for an hour."""
    record = await harness.carry_out(harness.step("a"))
    harness.start += timedelta(days=31)
    async with harness.runner(harness.step("a")):
        await asyncio.sleep(1)
        assert await harness.store.get(keys.task(record.id)) is None


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the log out of the tests' output."""
    with structlog.testing.capture_logs():
        yield
