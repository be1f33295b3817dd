"""Events of tasks that began or ended, each once, in the order of the store's revisions. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from openvcha.api.messages import message
from openvcha.api.structures import EventSeverity, LocalizableMessage, TaskStatus
from openvcha.cluster.failover_obstacle import FailoverObstacle
from openvcha.cluster.preconditions import FAILOVER
from openvcha.events.failover_events import failed_type
from openvcha.events.state_diff import OWN, EventDraft
from openvcha.store.errors import RecordUnreadable
from openvcha.store.interface import KeyValue
from openvcha.store.records import decode
from openvcha.tasks.record import TaskRecord


@dataclass(frozen=True)
class TaskEvent:
    """An event, and the revision of the store at which it happened."""

    revision: int
    draft: EventDraft


def new_task_events(records: Iterable[KeyValue], since: int) -> list[TaskEvent]:
    """Return the events after the revision ``since``, in order; records may repeat."""
    latest = {kv.key: kv for kv in records}
    found = [news for kv in latest.values() for news in _of(kv) if news.revision > since]
    return sorted(found, key=lambda news: news.revision)


def _of(kv: KeyValue) -> Iterator[TaskEvent]:
    try:
        record = decode(kv, TaskRecord)
    except RecordUnreadable:
        return  # the journal logs this one
    name = record.operation_id
    text = message("event.operation.started", name, record.user or "-")
    yield TaskEvent(kv.create_revision, _draft(record, "started", EventSeverity.INFO, text))
    if record.status is TaskStatus.SUCCEEDED:
        yield TaskEvent(kv.mod_revision, _succeeded(record))
    elif record.finished:
        yield TaskEvent(kv.mod_revision, _failed(record))


def _succeeded(record: TaskRecord) -> EventDraft:
    name = record.operation_id
    if not record.leftovers:
        text = message("event.operation.succeeded", name)
        return _draft(record, "succeeded", EventSeverity.INFO, text)
    left = " ".join(one.default_message for one in record.leftovers)
    text = message("event.operation.succeeded.left", name, left)
    return _draft(record, "succeeded", EventSeverity.WARNING, text)


def _failed(record: TaskRecord) -> EventDraft:
    reasons = record.error.messages if record.error else ()
    why = " ".join(reason.default_message for reason in reasons) or "-"
    text = message("event.operation.failed", record.operation_id, why)
    draft = _draft(record, "failed", EventSeverity.ERROR, text)
    obstacle = FailoverObstacle.among(reasons) if record.operation_id == FAILOVER else None
    return msgspec.structs.replace(draft, type=failed_type(obstacle)) if obstacle else draft


def _draft(
    record: TaskRecord, kind: str, severity: EventSeverity, text: LocalizableMessage
) -> EventDraft:
    return EventDraft(
        type=f"{OWN}operation.{kind}", severity=severity, message=text, task=record.id
    )
