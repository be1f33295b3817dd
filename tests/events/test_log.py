"""Events are numbered without a gap, retained within limits, and followed without repetition."""

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from openvcha.api.codec.encode import encode_time
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import EventFilterSpec, EventInfo, EventSeverity
from openvcha.events import log
from openvcha.events.log import MAX_AGE, MAX_AT_ONCE, EventLog, ReportedState
from openvcha.events.state_diff import EventDraft
from openvcha.store import keys
from openvcha.store.errors import OutcomeUnknown
from openvcha.store.interface import value_is
from openvcha.store.memory import MemoryStore

pytestmark = pytest.mark.looptime
BEGINNING = datetime(2026, 11, 24, tzinfo=UTC)


def draft(name: str) -> EventDraft:
    text = message("event.node.left", name)
    return EventDraft(type="x", severity=EventSeverity.INFO, message=text, node=name)


async def tell(events: EventLog, *names: str) -> bool:
    before = await events.last_reported()
    return await events.append(before, before.memory, [draft(name) for name in names])


def names(found: tuple[EventInfo, ...]) -> str:
    return "".join(event.node or "?" for event in found)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def events(store: MemoryStore) -> EventLog:
    return EventLog(store, lambda: BEGINNING)


async def test_events_are_numbered_without_a_gap(events: EventLog) -> None:
    """From one on, in the order in which they were recorded."""
    assert await events.last_id() == "0"
    await tell(events, "a", "b")
    await tell(events, "c")
    found = await events.list()
    assert [(event.id, event.node) for event in found] == [("1", "a"), ("2", "b"), ("3", "c")]
    assert found[0].time == BEGINNING
    assert await events.last_id() == "3"


async def test_of_two_that_tell_from_the_same_only_one_is_heard(events: EventLog) -> None:
    """Otherwise both would report a failover."""
    before = await events.last_reported()
    assert await events.append(before, replace(before.memory, tasks=5), [draft("a")])
    assert not await events.append(before, replace(before.memory, tasks=6), [draft("b")])
    assert names(await events.list()) == "a"
    assert (await events.last_reported()).memory == ReportedState(tasks=5, last=1)


async def test_a_guard_that_does_not_hold_keeps_everything(
    events: EventLog, store: MemoryStore
) -> None:
    """A process that does not lead records nothing."""
    await store.put(keys.PATRONI_LEADER, b"b-2")
    before = await events.last_reported()
    guard = value_is(keys.PATRONI_LEADER, b"a-1")
    assert not await events.append(before, before.memory, [draft("a")], guard)
    assert await events.list() == ()


async def test_an_unknown_outcome_neither_repeats_nor_misses(
    events: EventLog, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is written with the event: its successor knows what was recorded."""
    txn = store.txn

    async def lost(*arguments: object) -> None:
        await txn(*arguments)  # type: ignore[arg-type]  # passed on as they came
        raise OutcomeUnknown("the answer was lost")

    before = await events.last_reported()
    with monkeypatch.context() as patch:
        patch.setattr(store, "txn", lost)
        with pytest.raises(OutcomeUnknown):
            await events.append(before, replace(before.memory, tasks=7), [draft("a")])
    assert (await events.last_reported()).memory.tasks == 7
    assert names(await events.list()) == "a"


async def test_no_more_than_the_limit_are_kept(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is deleted in the transaction that writes the newest; ids go on."""
    monkeypatch.setattr(log, "MAX_EVENTS", 5)
    events = EventLog(store)
    for number in range(12):
        await tell(events, str(number))
    assert len(await store.prefix(keys.EVENTS)) == 5
    assert [event.id for event in await events.list()] == ["8", "9", "10", "11", "12"]


async def test_what_fits_one_transaction_is_told_and_more_is_refused(events: EventLog) -> None:
    """The store allows 128 actions, and each event may need two."""
    assert await tell(events, *"x" * MAX_AT_ONCE)
    with pytest.raises(ValueError, match="too many"):
        await tell(events, *"x" * (MAX_AT_ONCE + 1))


async def test_old_events_are_swept(store: MemoryStore) -> None:
    """By age, however few there are."""
    now = BEGINNING
    events = EventLog(store, lambda: now)
    for _ in range(3):
        await tell(events, *"x" * 50)
    now += MAX_AGE / 2
    await tell(events, "y")
    now += MAX_AGE / 2 + timedelta(seconds=1)
    assert await events.sweep() == 150
    assert names(await events.list()) == "y"
    assert await events.sweep() == 0


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (EventFilterSpec(), "abcdef"),
        (EventFilterSpec(limit=2), "ef"),
        (EventFilterSpec(after="2"), "cdef"),
        (EventFilterSpec(after="2", limit=2), "cd"),
        (EventFilterSpec(after="6"), ""),
        (EventFilterSpec(after="900"), ""),
    ],
    ids=str,
)
async def test_listing_begins_where_it_is_asked_to(
    events: EventLog, spec: EventFilterSpec, expected: str
) -> None:
    """After an id the following ones, to resume; otherwise the newest."""
    await tell(events, *"abcdef")
    assert names(await events.list(spec)) == expected


@pytest.mark.parametrize(
    "spec",
    [
        EventFilterSpec(after="x"),
        EventFilterSpec(after="-1"),
        EventFilterSpec(after="²"),
        EventFilterSpec(after="9" * 40),
        EventFilterSpec(limit=0),
        EventFilterSpec(limit=10**9),
    ],
    ids=str,
)
async def test_what_is_no_id_and_no_limit_is_refused(
    events: EventLog, spec: EventFilterSpec
) -> None:
    """It is not taken for the beginning."""
    with pytest.raises(ApiError) as raised:
        await events.list(spec)
    assert raised.value.error_type is ErrorType.INVALID_ARGUMENT


async def collect(events: EventLog, after: str, count: int) -> str:
    found = ""
    async with aclosing(events.follow(after)) as follow:
        async for batch in follow:
            found += names(batch)
            if len(found) >= count:
                break
    return found


async def tell_slowly(events: EventLog, what: str) -> None:
    for name in what:
        await asyncio.sleep(0.1)
        await tell(events, name)


@pytest.mark.parametrize(("after", "expected"), [("0", "abcdefghij"), ("2", "cdefghij")])
async def test_followers_get_each_event_once_also_those_to_come(
    events: EventLog, after: str, expected: str
) -> None:
    """From any id on, without a gap between existing and new events."""
    await tell(events, *"abc")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(tell_slowly(events, "defghij"))
        assert await collect(events, after, len(expected)) == expected


async def test_a_follower_outlives_a_compaction(events: EventLog, store: MemoryStore) -> None:
    """It resumes from its position, even when there were no events for long."""
    await tell(events, *"abc")

    async def compact() -> None:
        for number in range(20):
            await asyncio.sleep(0.05)
            await store.put("/other", str(number).encode())
            await store.compact(store.revision + 1)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(tell_slowly(events, "defghij"))
        group.create_task(compact())
        assert await collect(events, "0", 10) == "abcdefghij"


@pytest.mark.parametrize(
    "value", [b'{"seen":5}', b"{" * 99, b"\xff", b'{"last":-7}', b'{"last":99999999999999999}']
)
async def test_a_memory_that_cannot_be_read_is_begun_anew(
    events: EventLog, store: MemoryStore, value: bytes
) -> None:
    """Otherwise a thief who writes it would stop all recording and reading of events."""
    await tell(events, "a", "b")
    await store.put(keys.EVENTS_MEMORY, value)
    assert names(await events.list()) == "ab"
    assert await tell(events, "c")
    assert names(await events.list()) == "abc"


@pytest.mark.parametrize("key", ["zzzz", "9999999999999999", "\u0661" * 16, "9" * 5000, "-1"])
async def test_a_key_of_no_event_is_in_nobody_s_way(
    events: EventLog, store: MemoryStore, key: str
) -> None:
    """It blocks neither recording nor following."""
    await tell(events, "a")
    async with aclosing(events.follow("0")) as following:
        assert names(await anext(following)) == "a"
        await store.put(keys.EVENTS + key, b"x")
        await store.delete(keys.EVENTS_MEMORY)
        assert await tell(events, "b")
        assert names(await events.list()) == "ab"
        found = ""
        while not found:
            found = names(await anext(following))
        assert found == "b"


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
async def test_a_time_beyond_the_calendar_can_be_shown(
    events: EventLog, store: MemoryStore, moment: str
) -> None:
    """Otherwise one such record would make all events unreadable."""
    await tell(events, "a")
    kv = await store.get(f"{keys.EVENTS}{1:016}")
    assert kv is not None
    fields = {**json.loads(kv.value), "time": moment}
    await store.put(kv.key, json.dumps(fields).encode())
    (found,) = await events.list()
    assert encode_time(found.time)[:4] == moment[:4]
