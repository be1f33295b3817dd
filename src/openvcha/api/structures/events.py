"""Structures of our own: events of the cluster, and audit records. vCenter has none of these."""

from datetime import datetime
from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import OperationId, TaskId
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.types import Enumeration, Structure


class EventSeverity(Enumeration, vapi="org.openvcha.events.severity"):
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class EventInfo(Structure):
    """Something that happened; `id` is a number, greater than that of all before.

    `node` is the name of the node that it is about, `task` the task's id, where there is one.
    """

    vapi: ClassVar[str] = "org.openvcha.events.info"

    id: str
    time: datetime
    severity: EventSeverity
    type: str
    node: str | None = None
    task: TaskId | None = None
    message: LocalizableMessage


class EventFilterSpec(Structure):
    """Which events to list: those `after` an id, oldest first; else the newest. At most `limit`."""

    vapi: ClassVar[str] = "org.openvcha.events.filter_spec"

    after: str | None = None
    limit: int | None = None


class AuditInfo(Structure):
    """A call that was to change something, and what became of it.

    `user` is unset when nobody was logged in. `arguments` is JSON without secrets, unset when they
    could not be read. `result` is OK or the type of the error, whose first message is `reason`.
    """

    vapi: ClassVar[str] = "org.openvcha.audit.info"

    id: str
    time: datetime
    user: str | None = None
    origin: str
    protocol: str
    operation: OperationId
    arguments: str | None = None
    result: str
    reason: LocalizableMessage | None = None
    task: TaskId | None = None


class AuditFilterSpec(Structure):
    """How many of the newest records to list."""

    vapi: ClassVar[str] = "org.openvcha.audit.filter_spec"

    limit: int | None = None


prepare(__name__)
