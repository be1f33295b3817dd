"""Whoever may call the API tries to fill the store, or to push out what is kept of others."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.protocols.conftest import Edge, make_edge

from openvcha.api.cut import MARK
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import AuditInfo, EventInfo, EventSeverity, LocalizableMessage
from openvcha.events.log import EventLog
from openvcha.events.seen import Draft
from openvcha.store import keys
from openvcha.store.kept import LONGEST_ARGUMENT, LONGEST_TEXT, kept
from openvcha.store.memory import MemoryStore
from openvcha.store.protocol import EventType
from openvcha.tasks.record import ErrorRecord, error_record

NOW = datetime(2026, 11, 26, tzinfo=UTC)
JOINS = "/api/openvcha/joins"
HUGE = "x" * 600_000
LARGEST_RECORD = 8 * 1024
"""What one call may leave behind."""


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Make an edge with an administrator, a reader and a user who may do nothing."""
    made = await make_edge()
    async with made.client:
        yield made


async def bytes_kept(store: MemoryStore, prefix: str = keys.ROOT) -> int:
    return sum(len(kv.key) + len(kv.value) for kv in await store.prefix(prefix))


def bytes_written(store: MemoryStore) -> int:
    """Measure all that was written: so much a store takes until it is compacted."""
    puts = [event.kv for event in store._history if event.type is EventType.PUT]
    return sum(len(kv.key) + len(kv.value) for kv in puts)


def strangers_bodies() -> Iterator[Any]:
    """Each quotes something of its own in the error."""
    yield {HUGE: 1}
    yield {"token": {HUGE: 1}}
    yield {"role": HUGE}
    yield {"role": "PASSIVE", "token": "t", "name": HUGE, "ha_address": HUGE}
    yield [[HUGE]]


@pytest.mark.parametrize("path", [JOINS, "/rest/openvcha/joins"])
async def test_a_refused_call_leaves_little_behind(edge: Edge, path: str) -> None:
    """However long the names are that its error quotes; that they are cut is marked."""
    before = bytes_written(edge.store)
    for number, body in enumerate(strangers_bodies(), 1):
        reply = await edge.client.post(path, json=body)
        assert len(reply.content) < 16 * 1024
        assert bytes_written(edge.store) - before < number * LARGEST_RECORD


async def test_that_a_text_was_cut_is_marked(edge: Edge) -> None:
    """The reason in the audit, and the answer to the caller."""
    reply = await edge.client.post(JOINS, json={HUGE: 1})
    assert MARK in reply.json()["messages"][0]["default_message"]
    (record,) = await edge.audit.list()
    assert record.reason is not None
    quoted = record.reason.args[0]
    assert (quoted[:8], quoted[-1], len(quoted)) == ("spec.xxx", MARK, LONGEST_ARGUMENT)


def long_message() -> LocalizableMessage:
    """Make a message past the catalogue, as another node's record may hold one."""
    return LocalizableMessage(id="x", default_message=HUGE, args=(HUGE,) * 100)


@pytest.mark.parametrize(
    "record",
    [
        AuditInfo(
            id="1",
            time=NOW,
            origin="o",
            protocol="p",
            operation="x.y",
            result="ERROR",
            reason=long_message(),
        ),
        EventInfo(id="1", time=NOW, severity=EventSeverity.INFO, type="t", message=long_message()),
        ErrorRecord(error_type=ErrorType.ERROR, messages=(long_message(),)),
        {"a": [long_message(), {"b": long_message()}]},
    ],
)
def test_messages_are_cut_wherever_they_stand(record: object) -> None:
    """By the one function that all records pass on their way into the store."""
    assert HUGE not in repr(kept(record))
    assert len(repr(kept(record))) < 2 * (LONGEST_TEXT + 17 * LONGEST_ARGUMENT)


def test_what_is_short_is_kept_as_it_is() -> None:
    """Also the very object."""
    record = {"a": [message("users.unknown", "u")], "b": (1, None), "c": HUGE}
    assert kept(record) is record


async def test_events_and_errors_of_tasks_are_cut(edge: Edge) -> None:
    """An event that quotes a peer's words; the error of a task with many causes."""
    await EventLog(edge.store).add(
        Draft(type="t", severity=EventSeverity.ERROR, message=long_message())
    )
    assert await bytes_kept(edge.store, keys.EVENTS) < LARGEST_RECORD
    causes = [message("infrastructure.power.died", "vm", HUGE)] * 100
    assert len(repr(error_record(ApiError(ErrorType.ERROR, *causes)))) < 64 * 1024
