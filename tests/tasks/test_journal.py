"""The journal: one operation at a time, durable before it is promised, found again, cancelled."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.support.simulated.clock import SIMULATED

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import DynamicID, TaskFilterSpec, TaskGetSpec, TaskStatus
from openvcha.store import keys
from openvcha.store.errors import OutcomeUnknown
from openvcha.store.interface import Action, Compare, KeyValue, Put, TxnResult, absent
from openvcha.store.memory import MemoryStore
from openvcha.store.records import encode
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import Phase, TaskRecord

pytestmark = SIMULATED

PASSIVE = "com.vmware.vcenter.vcha.cluster.passive"
WITNESS = "com.vmware.vcenter.vcha.cluster.witness"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Forgetful(MemoryStore):
    """Simulated: loses the answers of its first transactions, carried out or not."""

    def __init__(self, lost: Sequence[bool]) -> None:
        super().__init__()
        self._lost = list(lost)

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run a transaction, or lose it or its answer."""
        if not self._lost:
            return await super().txn(compares, success, failure)
        if self._lost.pop(0):
            await super().txn(compares, success, failure)
        raise OutcomeUnknown("the answer was lost")


@pytest.fixture
def store() -> MemoryStore:
    """Return an empty simulated store."""
    return MemoryStore()


@pytest.fixture
def journal(store: MemoryStore) -> Journal:
    """Return a journal with a stopped clock."""
    return Journal(store, clock=lambda: NOW)


async def make(journal: Journal, **values: Any) -> TaskRecord:
    """Create a task, with the given fields."""
    given: dict[str, Any] = {
        "service": PASSIVE,
        "operation": "redeploy$task",
        "description": message("passive.redeploy"),
        "user": "root",
    }
    return await journal.create(**(given | values))


async def put(store: MemoryStore, record: TaskRecord, **values: Any) -> None:
    """Put a record as if the runner had got that far, and free the operation if it ended."""
    changed = msgspec.structs.replace(record, **values)
    await store.put(keys.task(record.id), encode(changed))
    if changed.finished:
        await store.delete(keys.OPERATION)


def error_of(caught: pytest.ExceptionInfo[ApiError]) -> tuple[ErrorType, list[str]]:
    """Return an error's type and the ends of its messages' ids."""
    ids = [text.id.removeprefix("com.vmware.vcenter.vcha.") for text in caught.value.messages]
    return caught.value.error_type, ids


async def test_a_created_task_is_in_the_store(journal: Journal, store: MemoryStore) -> None:
    """The task is found as soon as its id was returned, also through another journal."""
    record = await make(journal, arguments={"spec": {"placement": {"name": "b"}}})
    assert await Journal(store).read(record.id) == record
    info = await journal.get(record.id)
    assert (info.status, info.operation, info.user) == (TaskStatus.PENDING, "redeploy$task", "root")
    assert info.cancelable
    assert await journal.running() == record


async def test_ids_are_two_parts_and_come_from_the_randomness(store: MemoryStore) -> None:
    """An id is a random UUID and the instance, and cannot be guessed from another one."""
    record = await make(Journal(store))
    unique, instance = record.id.split(":")
    assert uuid.UUID(unique).version == 4
    assert instance == "com.vmware.vcenter.vcha"
    drawn: list[int] = []
    fixed = Journal(MemoryStore(), random=lambda size: drawn.append(size) or bytes(size))  # type: ignore[func-returns-value]  # append gives nothing, which is the point
    assert re.fullmatch(r"00000000-0000-4000-8000-0{12}:.*", (await make(fixed)).id)
    assert drawn == [16]


async def test_one_operation_at_a_time(journal: Journal) -> None:
    """A second operation is refused, and the refusal names the first."""
    first = await make(journal)
    with pytest.raises(ApiError) as caught:
        await make(journal, service=WITNESS)
    assert error_of(caught) == (ErrorType.RESOURCE_BUSY, ["task.busy"])
    assert caught.value.messages[0].args == (f"{PASSIVE}.redeploy", first.id)


async def test_of_many_at_once_one_is_accepted(journal: Journal) -> None:
    """Of simultaneous requests exactly one is accepted."""
    results = await asyncio.gather(*(make(journal) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, TaskRecord) for result in results) == 1


class Listing(MemoryStore):
    """Simulated: counts the reads of whole tasks."""

    whole = 0

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read the keys below a prefix."""
        self.whole += not keys_only
        return await super().prefix(prefix, keys_only=keys_only)


async def test_ended_tasks_are_not_read_again_until_one_changes() -> None:
    """Nearly every view of the cluster asks whether one runs."""
    store = Listing()
    journal = Journal(store)
    for _ in range(3):
        record = await make(journal)
        await store.delete(keys.OPERATION)
        for _ in range(2):
            assert await journal.running() == record
        await put(store, record, status=TaskStatus.SUCCEEDED)
        assert await journal.running() is None
        read = store.whole
        assert await journal.running() is None
        assert store.whole == read
    await store.put(keys.task(record.id), b"{")
    for _ in range(2):
        assert await journal.running() is None
    await put(store, record)
    assert await journal.running() == record


@pytest.mark.parametrize("lost", [[True], [False], [True, False], [False, True]])
async def test_a_lost_answer_makes_no_second_task(lost: list[bool]) -> None:
    """When the store loses an answer the task exists once, and is the caller's."""
    store = Forgetful(lost)
    record = await make(Journal(store))
    assert [kv.key for kv in await store.prefix(keys.TASKS)] == [keys.task(record.id)]
    kv = await store.get(keys.OPERATION)
    assert kv is not None
    assert kv.value.decode() == record.id


async def test_an_outcome_that_stays_unknown_is_said(store: MemoryStore) -> None:
    """The caller gets an error, instead of waiting for ever."""
    with pytest.raises(OutcomeUnknown):
        await make(Journal(Forgetful([False] * 9)))
    assert not await store.prefix(keys.TASKS)


async def test_what_the_caller_checked_must_still_hold(
    journal: Journal, store: MemoryStore
) -> None:
    """A guard that fails is CONCURRENT_CHANGE, and no task exists."""
    await store.put(keys.CLUSTER, b"{}")
    with pytest.raises(ApiError) as caught:
        await make(journal, guards=[absent(keys.CLUSTER)])
    assert error_of(caught) == (ErrorType.CONCURRENT_CHANGE, ["task.concurrent"])
    assert not await store.prefix(keys.TASKS)
    assert await journal.running() is None


async def test_no_secret_is_written(journal: Journal, store: MemoryStore) -> None:
    """Arguments that contain a secret are a TypeError, and no task exists."""
    with pytest.raises(TypeError):
        await make(journal, arguments={"spec": {"password": Secret("hunter2")}})
    assert not await store.prefix(keys.ROOT)


async def test_an_unknown_task_is_not_found(journal: Journal) -> None:
    """Every call that names a missing task fails with NOT_FOUND."""
    for asked in (journal.get, journal.read, journal.request_cancel):
        with pytest.raises(ApiError) as caught:
            await asked("nope/../../cluster")
        assert error_of(caught) == (ErrorType.NOT_FOUND, ["task.not.found"])


async def test_an_unreadable_record_hurts_only_itself(journal: Journal, store: MemoryStore) -> None:
    """It is RESOURCE_INACCESSIBLE when read, and the others are still listed."""
    record = await make(journal)
    await store.put(keys.task("broken"), b"{")
    with pytest.raises(ApiError) as caught:
        await journal.get("broken")
    assert error_of(caught) == (ErrorType.RESOURCE_INACCESSIBLE, ["task.unreadable"])
    assert list(await journal.list(TaskFilterSpec(services=frozenset({PASSIVE})))) == [record.id]


@pytest.mark.parametrize(
    "spec", [None, TaskFilterSpec(), TaskFilterSpec(tasks=frozenset(), users=frozenset({"root"}))]
)
async def test_a_list_needs_tasks_or_services(journal: Journal, spec: TaskFilterSpec) -> None:
    """A filter without either is INVALID_ARGUMENT."""
    with pytest.raises(ApiError) as caught:
        await journal.list(spec)
    assert error_of(caught) == (ErrorType.INVALID_ARGUMENT, ["task.filter.empty"])


VM_42 = DynamicID(type="VirtualMachine", id="vm-42")
VM_43 = DynamicID(type="VirtualMachine", id="vm-43")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "ab"),
        ({"operations": frozenset({"redeploy"})}, "a"),
        ({"operations": frozenset({"redeploy$task"})}, "a"),
        ({"operations": frozenset({"redeploy", "deploy$task"})}, "ab"),
        ({"operations": frozenset()}, "ab"),
        ({"status": frozenset({TaskStatus.SUCCEEDED})}, "a"),
        ({"status": frozenset({TaskStatus.SUCCEEDED, TaskStatus.PENDING})}, "ab"),
        ({"targets": (VM_42, VM_43)}, "a"),
        ({"targets": (VM_43,)}, ""),
        ({"users": frozenset({"eve", "root"})}, "b"),
        ({"users": frozenset({"eve"}), "status": frozenset({TaskStatus.SUCCEEDED})}, ""),
        ({"services": frozenset({WITNESS})}, ""),
    ],
)
async def test_a_list_matches_every_set_of_the_filter(
    journal: Journal, store: MemoryStore, wanted: dict[str, Any], found: str
) -> None:
    """Within a set one match is enough; all sets must match."""
    first = await make(journal, user="alice", target=VM_42)
    await put(store, first, status=TaskStatus.SUCCEEDED, start_time=NOW, end_time=NOW)
    second = await make(journal, operation="deploy$task")
    spec = TaskFilterSpec(**({"services": frozenset({PASSIVE})} | wanted))
    names = {first.id: "a", second.id: "b"}
    listed = await journal.list(spec)
    assert "".join(sorted(names[task] for task in listed)) == found


async def test_a_list_by_ids_leaves_out_what_is_not_there(journal: Journal) -> None:
    """An id that is no task matches nothing, and causes no error."""
    record = await make(journal)
    listed = await journal.list(TaskFilterSpec(tasks=frozenset({record.id, "nope"})))
    assert listed == {record.id: await journal.get(record.id)}


async def test_a_list_can_leave_out_results(journal: Journal, store: MemoryStore) -> None:
    """The result is shown by default and omitted on request."""
    record = await make(journal)
    ended = {"status": TaskStatus.SUCCEEDED, "start_time": NOW, "end_time": NOW}
    await put(store, record, result={"a": 1}, **ended)
    spec = TaskFilterSpec(services=frozenset({PASSIVE}))
    assert (await journal.list(spec))[record.id].result is not None
    without = await journal.list(spec, TaskGetSpec(exclude_result=True, return_all=True))
    assert without[record.id].result is None


async def test_too_many_matches_are_refused(journal: Journal, store: MemoryStore) -> None:
    """A thousand tasks are listed, one more is RESOURCE_INACCESSIBLE."""
    record = await make(journal)
    for number in range(999):
        other = msgspec.structs.replace(record, id=str(number))
        await store.txn([], [Put(keys.task(other.id), encode(other))])
    spec = TaskFilterSpec(services=frozenset({PASSIVE}))
    assert len(await journal.list(spec)) == 1000
    await store.put(keys.task("more"), encode(msgspec.structs.replace(record, id="more")))
    with pytest.raises(ApiError) as caught:
        await journal.list(spec)
    assert error_of(caught) == (ErrorType.RESOURCE_INACCESSIBLE, ["task.filter.too.many"])


async def test_a_cancel_request_is_kept_once(journal: Journal) -> None:
    """Repeating a pending request is no error."""
    record = await make(journal)
    await journal.request_cancel(record.id)
    await journal.request_cancel(record.id)
    assert (await journal.read(record.id)).cancel_requested


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        ({"may_cancel": False, "cancelable": False}, "task.cancel.never"),
        ({"cancelable": False, "step": "commit"}, "task.cancel.step"),
        ({"cancelable": False, "phase": Phase.UNDO}, "task.cancel.undoing"),
    ],
)
async def test_a_cancel_that_is_not_possible_says_why(
    journal: Journal, store: MemoryStore, state: dict[str, Any], refusal: str
) -> None:
    """A task that cannot be canceled now is UNSUPPORTED with the reason."""
    record = await make(journal)
    await put(store, record, status=TaskStatus.RUNNING, start_time=NOW, **state)
    with pytest.raises(ApiError) as caught:
        await journal.request_cancel(record.id)
    assert error_of(caught) == (ErrorType.UNSUPPORTED, ["task.not.cancelable", refusal])
    assert not (await journal.read(record.id)).cancel_requested


@pytest.mark.parametrize("status", [TaskStatus.SUCCEEDED, TaskStatus.FAILED])
async def test_a_finished_task_cannot_be_canceled(
    journal: Journal, store: MemoryStore, status: TaskStatus
) -> None:
    """Cancelling after the end is NOT_ALLOWED_IN_CURRENT_STATE."""
    record = await make(journal)
    await put(store, record, status=status, start_time=NOW, end_time=NOW, cancel_requested=True)
    with pytest.raises(ApiError) as caught:
        await journal.request_cancel(record.id)
    assert error_of(caught) == (ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, ["task.finished"])


async def test_a_watch_follows_to_the_end(journal: Journal, store: MemoryStore) -> None:
    """A watch yields the record now and after each change, even past a compaction, and ends."""
    record = await make(journal)
    seen: list[TaskStatus] = []

    async def follow() -> None:
        async for state in journal.watch(record.id):
            seen.append(state.status)
            if state.status is TaskStatus.PENDING:
                await put(store, record, status=TaskStatus.RUNNING, start_time=NOW)
                await store.compact(store.revision + 1)
            elif state.status is TaskStatus.RUNNING:
                await put(store, record, status=TaskStatus.FAILED, start_time=NOW, end_time=NOW)

    await asyncio.wait_for(follow(), 5)
    assert seen == [TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.FAILED]


async def test_a_watch_of_a_deleted_task_ends(journal: Journal, store: MemoryStore) -> None:
    """A watcher of a deleted task is told so."""
    record = await make(journal)
    watch = journal.watch(record.id)
    assert await anext(watch) == record
    await store.delete(keys.task(record.id))
    with pytest.raises(ApiError) as caught:
        await anext(watch)
    assert error_of(caught)[0] is ErrorType.NOT_FOUND
