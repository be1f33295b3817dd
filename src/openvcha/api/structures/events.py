"""Structures of events and audit records. Our own: vCenter has none."""

from datetime import datetime
from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import OperationId, TaskId
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.types import Enumeration, Structure


class EventSeverity(Enumeration, vapi="org.openvcha.events.severity"):
    """The severity of an event."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class EventInfo(Structure):
    """An event; `id` is a number, greater than that of any earlier event.

    `node` is the name of the node concerned, `task` the id of the task, if any.
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
    """The events to list: those `after` an id, oldest first; else the newest. At most `limit`."""

    vapi: ClassVar[str] = "org.openvcha.events.filter_spec"

    after: str | None = None
    limit: int | None = None


class AuditInfo(Structure):
    """A call that was meant to make a change, and its result.

    `user` is unset without a login. `arguments` is JSON without secrets, unset if they could not
    be decoded. `result` is OK or the type of the error; `reason` is the error's first message.
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
    """The number of newest records to list."""

    vapi: ClassVar[str] = "org.openvcha.audit.filter_spec"

    limit: int | None = None


prepare(__name__)
