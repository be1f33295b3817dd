"""The stored record of a task, and its conversion for the API."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    DynamicID,
    LocalizableMessage,
    TaskInfo,
    TaskProgress,
    TaskStatus,
)
from openvcha.api.types import Opaque, Structure
from openvcha.store.text_limits import truncated

TOTAL = 100
"""The progress of a task that has succeeded; any other one has less."""
MAX_ERROR_BYTES = 16 * 1024
MAX_ARGUMENTS_BYTES = 16 * 1024
"""Limit of a call's arguments, which cannot be truncated: the task depends on them."""
MAX_PART_BYTES = 128 * 1024
"""Limit of what a step may store in a record at once (state, result)."""

FINISHED = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED})


class Phase(StrEnum):
    """The direction of a task. It is reversed at most once."""

    FORWARD = "FORWARD"
    UNDO = "UNDO"


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored standard error; ``data_type`` is the vAPI name of the structure in ``data``."""

    error_type: ErrorType
    messages: tuple[LocalizableMessage, ...] = ()
    data_type: str | None = None
    data: Any = None

    def to_error(self) -> ApiError:
        """Return the error as it was raised."""
        data = None
        if self.data_type is not None and self.data_type in (known := _structures()):
            data = msgspec.convert(self.data, known[self.data_type])
        return ApiError(self.error_type, *self.messages, data=data)

    def followed_by(self, *messages: LocalizableMessage) -> "ErrorRecord":
        """Return this error with further causes."""
        return _bounded(msgspec.structs.replace(self, messages=(*self.messages, *messages)))


def error_record(error: ApiError) -> ErrorRecord:
    """Convert an error for storage; one that is too large loses its data, then its last causes.

    Raises TypeError when the data contain a secret.
    """
    data = None if error.data is None else to_plain(error.data)
    return _bounded(
        ErrorRecord(
            error_type=error.error_type,
            messages=error.messages,
            data_type=None if error.data is None else error.data.vapi,
            data=data,
        )
    )


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored record of a task.

    ``operation`` is the name on the wire (``redeploy$task``). ``started`` names the steps whose
    action has begun and was not undone, in order. ``cancelable`` is what a caller sees now;
    ``may_cancel`` is whether the operation permits it at all. ``leftovers`` says what a task has
    left behind although it succeeded.
    """

    id: str
    description: LocalizableMessage
    service: str
    operation: str
    created: datetime
    status: TaskStatus
    progress: TaskProgress
    cancelable: bool
    may_cancel: bool
    target: DynamicID | None = None
    user: str | None = None
    parent: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    error: ErrorRecord | None = None
    result: Any = None
    arguments: Any = None
    state: dict[str, Any] = {}
    phase: Phase = Phase.FORWARD
    step: str | None = None
    started: tuple[str, ...] = ()
    cancel_requested: bool = False
    leftovers: tuple[LocalizableMessage, ...] = ()

    @property
    def busy(self) -> LocalizableMessage:
        """Return the message that this task is running, for an operation that must wait for it."""
        return message("task.busy", self.operation_id, self.id)

    @property
    def busy_error(self) -> ApiError:
        """Return the error for an operation that must wait for this task."""
        return ApiError(ErrorType.RESOURCE_BUSY, self.busy)

    @property
    def operation_id(self) -> str:
        """Return the full id, e.g. ``com.vmware.vcenter.vcha.cluster.passive.redeploy``."""
        return f"{self.service}.{operation_name(self.operation)}"

    @property
    def finished(self) -> bool:
        """Return whether the task has succeeded or failed."""
        return self.status in FINISHED


def operation_name(operation: str) -> str:
    """Return an operation's name without the suffix of its task form."""
    return operation.removesuffix("$task")


def to_info(
    record: TaskRecord, *, exclude_result: bool = False, result_type: Any = None
) -> TaskInfo:
    """Convert a record for the API; ``result_type`` is the Python type of its result, if any.

    The status determines which fields are set, as clients enforce it.
    """
    begun = record.status is not TaskStatus.PENDING
    failed = record.status is TaskStatus.FAILED
    show_result = begun and not exclude_result and record.result is not None
    return TaskInfo(
        description=record.description,
        service=record.service,
        operation=record.operation,
        parent=record.parent,
        target=record.target,
        status=record.status,
        cancelable=record.cancelable,
        user=record.user,
        progress=record.progress if begun else None,
        start_time=record.start_time if begun else None,
        end_time=record.end_time if record.finished else None,
        error=record.error.to_error() if failed and record.error else None,
        result=_opaque(record.result, result_type) if show_result else None,
    )


def _opaque(result: Any, result_type: Any) -> Opaque:
    if result_type is None:
        return Opaque(None, result)
    return Opaque(result_type, msgspec.convert(result, result_type))


def with_progress(
    record: TaskRecord, completed: int | None, text: LocalizableMessage | None
) -> TaskProgress:
    """Return the progress after a report: it never decreases, and is full only after success."""
    reached = min(completed or 0, TOTAL - 1)
    return TaskProgress(
        total=TOTAL,
        completed=max(record.progress.completed, reached),
        message=text or record.progress.message,
    )


def with_reason(record: TaskRecord, text: LocalizableMessage) -> TaskRecord:
    """Return a failing task with a text added to its error, unless the error has it."""
    if record.error is None or text in record.error.messages:
        return record
    return msgspec.structs.replace(record, error=record.error.followed_by(text))


def to_plain(value: Any) -> Any:
    """Convert a value to plain JSON types.

    Raises TypeError when the value contains a Secret, or anything that JSON cannot express.
    """
    for part in _parts(value):
        if isinstance(part, Secret):
            raise TypeError("a task's record never holds a secret")
    return msgspec.to_builtins(value)


def bounded_arguments(value: Any) -> Any:
    """Return ``to_plain(value)``. Raises ApiError INVALID_ARGUMENT when it is too large."""
    made = to_plain(value)
    if (size := _size(made)) > MAX_ARGUMENTS_BYTES:
        too_large = message("task.arguments.large", size, MAX_ARGUMENTS_BYTES)
        raise ApiError(ErrorType.INVALID_ARGUMENT, too_large)
    return made


def bounded_part(value: Any) -> Any:
    """Return ``to_plain(value)``. Raises ValueError when it is too large for a record."""
    made = to_plain(value)
    size = _size(made)
    if size > MAX_PART_BYTES:
        raise ValueError(f"{size} bytes are more than a task's record takes ({MAX_PART_BYTES})")
    return made


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, msgspec.Struct):
        inner = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    else:
        return
    for part in inner:
        yield from _parts(part)


def _bounded(error: ErrorRecord) -> ErrorRecord:
    error = truncated(error)
    if _size(error) > MAX_ERROR_BYTES:
        error = msgspec.structs.replace(error, data_type=None, data=None)
    while _size(error) > MAX_ERROR_BYTES:
        fewer = error.messages[:-1] or (message("task.error.large"),)
        error = msgspec.structs.replace(error, messages=fewer)
    return error


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _structures() -> dict[str, type[Structure]]:
    found: dict[str, type[Structure]] = {}
    todo = list(Structure.__subclasses__())
    while todo:
        cls = todo.pop()
        found[cls.vapi] = cls
        todo += cls.__subclasses__()
    return found


prepare(__name__)
