"""Structures of tasks and sessions."""

from datetime import datetime
from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import OperationId, ServiceId, TaskId
from openvcha.api.structures.std import DynamicID, LocalizableMessage
from openvcha.api.types import AnyError, Enumeration, Opaque, Structure, Union


class TaskStatus(Enumeration, vapi="com.vmware.cis.task.status"):
    """The status of a task."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    BLOCKED = "BLOCKED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class TaskProgress(Structure):
    """The progress of a task: `completed` of `total`, in the task's own units."""

    vapi: ClassVar[str] = "com.vmware.cis.task.progress"

    total: int
    completed: int
    message: LocalizableMessage


_STARTED = {"progress": True, "result": False, "start_time": True}


class TaskInfo(Structure):
    """A task; clients enforce which fields each `status` requires (see `union`)."""

    vapi: ClassVar[str] = "com.vmware.cis.task.info"
    union: ClassVar[Union | None] = Union(
        "status",
        {
            "PENDING": {},
            "RUNNING": _STARTED,
            "BLOCKED": _STARTED,
            "SUCCEEDED": _STARTED | {"end_time": True},
            "FAILED": _STARTED | {"end_time": True, "error": False},
        },
    )

    progress: TaskProgress | None = None
    result: Opaque | None = None
    description: LocalizableMessage
    service: ServiceId
    operation: OperationId
    parent: TaskId | None = None
    target: DynamicID | None = None
    status: TaskStatus
    cancelable: bool
    error: AnyError | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    user: str | None = None


class TaskFilterSpec(Structure):
    """The tasks to list; each set that is present must match."""

    vapi: ClassVar[str] = "com.vmware.cis.tasks.filter_spec"

    tasks: frozenset[TaskId] | None = None
    services: frozenset[ServiceId] | None = None
    operations: frozenset[OperationId] | None = None
    status: frozenset[TaskStatus] | None = None
    targets: tuple[DynamicID, ...] | None = None
    users: frozenset[str] | None = None


class TaskGetSpec(Structure):
    """The parts of a task to return; its result unless `exclude_result`."""

    vapi: ClassVar[str] = "com.vmware.cis.tasks.get_spec"

    return_all: bool | None = None
    exclude_result: bool | None = None


class SessionInfo(Structure):
    """A session. Times are in UTC."""

    vapi: ClassVar[str] = "com.vmware.cis.session.info"

    user: str
    created_time: datetime
    last_accessed_time: datetime


prepare(__name__)
