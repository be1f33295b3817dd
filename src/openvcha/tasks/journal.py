"""The tasks of the cluster: creation, queries, cancel requests."""

import contextlib
import secrets
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import (
    DynamicID,
    LocalizableMessage,
    TaskFilterSpec,
    TaskGetSpec,
    TaskInfo,
    TaskProgress,
    TaskStatus,
)
from openvcha.store import keys
from openvcha.store.errors import Compacted, OutcomeUnknown, RecordForged, RecordUnreadable
from openvcha.store.interface import (
    Compare,
    EventType,
    Get,
    KeyValue,
    Put,
    Snapshot,
    Store,
    absent,
    unchanged,
)
from openvcha.store.records import Record, decode, encode
from openvcha.system.structlog_light import structlog
from openvcha.tasks.record import (
    TOTAL,
    Phase,
    TaskRecord,
    bounded_arguments,
    operation_name,
    to_info,
)

INSTANCE: Final = "com.vmware.vcenter.vcha"
MAX_MATCHES: Final = 1000
RETENTION: Final = timedelta(days=30)
CREATE_TRIES: Final = 3
MAX_ID_CHARACTERS: Final = 200

_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Found:
    """A record with the key-value pair that it was read from."""

    record: TaskRecord
    kv: KeyValue


class Journal:
    """The records of tasks. Every method may raise StoreUnavailable.

    ``random(n)`` returns n unguessable bytes; ``instance`` is the second part of every id;
    ``results`` maps an operation's full id to the Python type of its result, if it has one.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime] = utc_now,
        random: Callable[[int], bytes] = secrets.token_bytes,
        instance: str = INSTANCE,
        results: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._random = random
        self._instance = instance
        self._results = results
        self._all_ended: list[KeyValue] = []
        """A list of keys, all of ended tasks: as long as it stays, nothing else is read."""
        self.clock = clock

    async def create(
        self,
        *,
        service: str,
        operation: str,
        description: LocalizableMessage,
        user: str | None,
        target: DynamicID | None = None,
        arguments: Any = None,
        cancelable: bool = True,
        guards: Sequence[Compare] = (),
    ) -> TaskRecord:
        """Create a PENDING task that holds the cluster's one operation; durable on return.

        ``operation`` is the wire name (``redeploy$task``). ``arguments`` are JSON or structures.
        ``guards`` are conditions that the caller's checks depend on, e.g. ``unchanged(...)`` of the
        configuration that it read. Raises ApiError RESOURCE_BUSY naming the running operation,
        CONCURRENT_CHANGE when a guard does not hold, INVALID_ARGUMENT for arguments that are too
        large; TypeError when they contain a secret.
        """
        progress = TaskProgress(total=TOTAL, completed=0, message=description)
        record = TaskRecord(
            id=self._new_id(),
            description=description,
            service=service,
            operation=operation,
            created=self.clock(),
            status=TaskStatus.PENDING,
            progress=progress,
            cancelable=cancelable,
            may_cancel=cancelable,
            target=target,
            user=user,
            arguments=bounded_arguments(arguments),
        )
        await self._insert(record, guards)
        _log.info("task created", task=record.id, operation=record.operation_id, user=user)
        return record

    async def read(self, task_id: str) -> TaskRecord:
        """Return a task's record. Raises ApiError NOT_FOUND or RESOURCE_INACCESSIBLE."""
        return _readable(task_id, await self._stored(task_id))

    async def get(self, task_id: str, spec: TaskGetSpec | None = None) -> TaskInfo:
        """Return a task. Raises as ``read``."""
        return self.info(await self.read(task_id), spec)

    async def list(
        self, filter_spec: TaskFilterSpec | None = None, result_spec: TaskGetSpec | None = None
    ) -> dict[str, TaskInfo]:
        """Return the tasks that match every set of the filter that is neither unset nor empty.

        Raises ApiError INVALID_ARGUMENT when neither tasks nor services are given,
        RESOURCE_INACCESSIBLE when more than 1000 match.
        """
        filter_spec = require_selective(filter_spec)
        _, found = await self.snapshot()
        matching = [item.record for item in found if matches(item.record, filter_spec)]
        if len(matching) > MAX_MATCHES:
            raise ApiError(
                ErrorType.RESOURCE_INACCESSIBLE, message("task.filter.too.many", MAX_MATCHES)
            )
        return {record.id: self.info(record, result_spec) for record in matching}

    def info(self, record: TaskRecord, spec: TaskGetSpec | None = None) -> TaskInfo:
        """Convert a record for the API. ``return_all`` adds nothing: tasks have no private data."""
        return to_info(
            record,
            exclude_result=bool(spec and spec.exclude_result),
            result_type=self._results.get(record.operation_id),
        )

    async def running(self) -> TaskRecord | None:
        """Return the task that holds the cluster's operation, from its creation to its end.

        A task that has not ended holds it even if its hold is gone: whoever has a vote in the store
        can delete or overwrite that key, which has no seal, but cannot forge the end of a task.
        """
        kv = await self._store.get(keys.OPERATION)
        holder = await self._holder(kv) if kv is not None else None
        return holder or await self._unfinished()

    def _known(self, task_id: str, kv: KeyValue) -> TaskRecord:
        """Decode a task's record; only the id of an unreadable one is known."""
        try:
            return decode(kv, TaskRecord)
        except RecordUnreadable:
            text = message("task.unreadable", task_id)
            return TaskRecord(
                id=task_id,
                description=text,
                service="unreadable",
                operation="task",
                created=self.clock(),
                status=TaskStatus.RUNNING,
                progress=TaskProgress(total=TOTAL, completed=0, message=text),
                cancelable=False,
                may_cancel=False,
            )

    async def request_cancel(self, task_id: str) -> None:
        """Request that a task stops at its next safe point and undoes its work. Idempotent.

        Raises ApiError NOT_FOUND, NOT_ALLOWED_IN_CURRENT_STATE when it has ended, UNSUPPORTED
        with the reason when it cannot be canceled (now).
        """
        await self.read(task_id)
        record = Record(self._store, keys.task(task_id), TaskRecord)
        await record.update(_asked, idempotent=True)
        _log.info("task cancel requested", task=task_id)

    async def watch(self, task_id: str) -> AsyncGenerator[TaskRecord, None]:
        """Yield a task's record now and after every change; end after the finished one.

        Intermediate states may be omitted. Raises ApiError NOT_FOUND, also when it is deleted.
        Close it with ``contextlib.aclosing`` when leaving early.
        """
        while True:
            kv = await self._stored(task_id)
            record = _readable(task_id, kv)
            yield record
            if record.finished or kv is None:
                return
            changes = self._store.watch(kv.key, kv.mod_revision + 1)
            with contextlib.suppress(Compacted):  # then read the record again
                async with contextlib.aclosing(changes):
                    async for events in changes:
                        last = events[-1]
                        record = _readable(task_id, last.kv if last.type is EventType.PUT else None)
                        yield record
                        if record.finished:
                            return

    async def snapshot(self) -> tuple[Snapshot, tuple[Found, ...]]:
        """Return all readable records, with the revision from which to watch for changes."""
        seen = await self._store.snapshot(keys.TASKS)
        return seen, tuple(_decoded(seen.items))

    def _new_id(self) -> str:
        return f"{uuid.UUID(bytes=self._random(16), version=4)}:{self._instance}"

    async def _insert(self, record: TaskRecord, guards: Sequence[Compare]) -> None:
        """Insert once, even if the store's response is lost: the id identifies the task."""
        for remaining in reversed(range(CREATE_TRIES)):
            try:
                return await self._try_insert(record, guards)
            except OutcomeUnknown:
                if not remaining:
                    raise
        return None

    async def _try_insert(self, record: TaskRecord, guards: Sequence[Compare]) -> None:
        key = keys.task(record.id)
        if (other := await self._unfinished()) is not None and other.id != record.id:
            raise other.busy_error
        free = absent(keys.OPERATION)
        while True:
            result = await self._store.txn(
                [free, absent(key), *guards],
                [Put(keys.OPERATION, record.id.encode()), Put(key, encode(record))],
                [Get(keys.OPERATION), Get(key)],
            )
            if result.succeeded:
                return
            operation, own = result.results
            if own:
                return  # an earlier try succeeded, but its answer was lost
            if not operation or free == unchanged(operation[0]):
                raise ApiError(ErrorType.CONCURRENT_CHANGE, message("task.concurrent"))
            if holder := await self._holder(operation[0]):
                raise holder.busy_error
            _log.warning(
                "the operation lock belonged to no task; releasing it",
                held=operation[0].value[:MAX_ID_CHARACTERS],
            )
            free = unchanged(operation[0])

    async def _holder(self, operation: KeyValue) -> TaskRecord | None:
        """Return the task that holds the operation.

        One transaction creates a task and its hold, and one ends both. A hold without a running
        task is not ours, and holds nothing.
        """
        task_id = operation.value[:MAX_ID_CHARACTERS].decode(errors="replace")
        try:
            found = await self._store.get(keys.task(task_id))
        except RecordForged:
            return None
        record = self._known(task_id, found) if found else None
        if record is None or not record.finished:
            return record
        # The task may have ended between the two reads.
        now = await self._store.get(keys.OPERATION)
        return None if now == operation else record

    async def _unfinished(self) -> TaskRecord | None:
        """Return the oldest readable task that has not ended: the one that the runner executes."""
        listed = await self._store.prefix(keys.TASKS, keys_only=True)
        if listed == self._all_ended:  # fast, as a mirror returns the same objects
            return None
        found = list(_decoded(await self._store.prefix(keys.TASKS)))
        ended = {(one.kv.key, one.kv.mod_revision) for one in found if one.record.finished}
        if all((kv.key, kv.mod_revision) in ended for kv in listed):
            self._all_ended = listed
        return oldest_unfinished(found)

    async def _stored(self, task_id: str) -> KeyValue | None:
        try:
            return await self._store.get(keys.task(task_id))
        except RecordForged as error:
            refused = message("task.forged", task_id)
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, refused) from error


def oldest_unfinished(found: Iterable[Found]) -> TaskRecord | None:
    """Return the oldest of these tasks that has not ended."""
    unfinished = [item.record for item in found if not item.record.finished]
    return min(unfinished, key=lambda record: (record.created, record.id), default=None)


def require_selective(wanted: TaskFilterSpec | None) -> TaskFilterSpec:
    """Return a filter that names tasks or services. Raises ApiError INVALID_ARGUMENT."""
    if wanted is None or not (wanted.tasks or wanted.services):
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("task.filter.empty"))
    return wanted


def matches(record: TaskRecord, wanted: TaskFilterSpec) -> bool:
    """Return whether a task matches every set that is neither unset nor empty."""
    operations = {operation_name(operation) for operation in wanted.operations or ()}
    return (
        (not wanted.tasks or record.id in wanted.tasks)
        and (not wanted.services or record.service in wanted.services)
        and (not operations or operation_name(record.operation) in operations)
        and (not wanted.status or record.status in wanted.status)
        and (not wanted.targets or record.target in wanted.targets)
        and (not wanted.users or record.user in wanted.users)
    )


def _asked(record: TaskRecord) -> TaskRecord:
    if record.finished:
        ended = message("task.finished", record.id, record.status.value)
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, ended)
    if record.cancel_requested:
        return record
    if not record.cancelable:
        reason = _why_not(record)
        refused = message("task.not.cancelable", record.id)
        raise ApiError(ErrorType.UNSUPPORTED, refused, reason)
    return msgspec.structs.replace(record, cancel_requested=True)


def _why_not(record: TaskRecord) -> LocalizableMessage:
    if not record.may_cancel:
        return message("task.cancel.never", record.operation_id)
    if record.phase is Phase.UNDO:
        return message("task.cancel.undoing")
    return message("task.cancel.step", record.step)


def _readable(task_id: str, kv: KeyValue | None) -> TaskRecord:
    if kv is None:
        raise ApiError(ErrorType.NOT_FOUND, message("task.not.found", task_id))
    try:
        return decode(kv, TaskRecord)
    except RecordUnreadable as error:
        _log.exception("a task's record cannot be read", task=task_id)
        unreadable = message("task.unreadable", task_id)
        raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, unreadable) from error


def _decoded(items: Sequence[KeyValue]) -> Iterator[Found]:
    for kv in items:
        try:
            yield Found(decode(kv, TaskRecord), kv)
        except RecordUnreadable:
            _log.exception("a task's record cannot be read", key=kv.key)
