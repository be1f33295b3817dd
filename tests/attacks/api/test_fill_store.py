"""Callers of the API try to fill the store, or to push out other users' records."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, Edge, make_edge

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.foreign_text import ELLIPSIS
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import AuditInfo, EventInfo, EventSeverity, LocalizableMessage
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import (
    MAX_CREATED_PER_MINUTE,
    MAX_CREATED_PER_MINUTE_TOTAL,
    MAX_PER_USER,
    Sessions,
)
from openvcha.events.audit import MAX_ACCESS, STRANGERS_A_MINUTE, USER_A_MINUTE, AuditLog
from openvcha.events.log import EventLog
from openvcha.events.state_diff import EventDraft
from openvcha.store import keys
from openvcha.store.errors import StoreFull
from openvcha.store.interface import Action, Compare, EventType, Put, TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.store.text_limits import MAX_ARGUMENT, MAX_TEXT, truncated
from openvcha.tasks.record import ErrorRecord, error_record

NOW = datetime(2026, 11, 26, tzinfo=UTC)
JOINS = "/api/openvcha/joins"
HUGE = "x" * 600_000
LARGEST_RECORD = 8 * 1024
"""What one call may leave behind."""


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge with an administrator, a reader and a user without access."""
    made = await make_edge()
    async with made.client:
        yield made


async def bytes_kept(store: MemoryStore, prefix: str = keys.ROOT) -> int:
    return sum(len(kv.key) + len(kv.value) for kv in await store.prefix(prefix))


def bytes_written(store: MemoryStore) -> int:
    """Return the bytes of all writes: a store takes that much until it is compacted."""
    puts = [event.kv for event in store._history if event.type is EventType.PUT]
    return sum(len(kv.key) + len(kv.value) for kv in puts)


def strangers_bodies() -> Iterator[Any]:
    """Return bodies, each of which gets its own text quoted in the error."""
    yield {HUGE: 1}
    yield {"token": {HUGE: 1}}
    yield {"role": HUGE}
    yield {"role": "PASSIVE", "token": "t", "name": HUGE, "ha_address": HUGE}
    yield [[HUGE]]


@pytest.mark.parametrize("path", [JOINS, "/rest/openvcha/joins"])
async def test_a_refused_call_leaves_little_behind(edge: Edge, path: str) -> None:
    """Long names in its error are cut, and the cut is marked."""
    before = bytes_written(edge.store)
    for number, body in enumerate(strangers_bodies(), 1):
        reply = await edge.client.post(path, json=body)
        assert len(reply.content) < 16 * 1024
        assert bytes_written(edge.store) - before < number * LARGEST_RECORD


async def test_that_a_text_was_cut_is_marked(edge: Edge) -> None:
    """In the audit's reason, and in the answer to the caller."""
    reply = await edge.client.post(JOINS, json={HUGE[:10_000]: 1})
    assert ELLIPSIS in reply.json()["messages"][0]["default_message"]
    (record,) = await edge.audit.list()
    assert record.reason is not None
    quoted = record.reason.args[0]
    assert (quoted[:8], quoted[-1], len(quoted)) == ("spec.xxx", ELLIPSIS, MAX_ARGUMENT)


def long_message() -> LocalizableMessage:
    """Return a message that the catalogue would not produce; another node's record may hold one."""
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
    assert HUGE not in repr(truncated(record))
    assert len(repr(truncated(record))) < 2 * (MAX_TEXT + 9 * MAX_ARGUMENT)


def test_what_is_short_is_kept_as_it_is() -> None:
    """Even the very same object."""
    record = {"a": [message("users.unknown", "u")], "b": (1, None), "c": HUGE}
    assert truncated(record) is record


async def test_events_and_errors_of_tasks_are_cut(edge: Edge) -> None:
    """An event that quotes a peer; the error of a task with many causes."""
    await EventLog(edge.store).add(
        EventDraft(type="t", severity=EventSeverity.ERROR, message=long_message())
    )
    assert await bytes_kept(edge.store, keys.EVENTS) < LARGEST_RECORD
    causes = [message("infrastructure.power.died", "vm", HUGE)] * 100
    assert len(repr(error_record(ApiError(ErrorType.ERROR, *causes)))) < 64 * 1024


HOSTILE = 10_000


def knocks(origins: Callable[[int], str], user: str | None = None) -> Iterator[AuditInfo]:
    """Return the records of hostile calls, each as long as one may be."""
    reason = truncated(long_message())
    for number in range(HOSTILE):
        yield AuditInfo(
            id="",
            time=NOW,
            user=user,
            origin=origins(number),
            protocol="rest",
            operation="org.openvcha.joining.join",
            arguments="x" * 4096,
            result="UNEXPECTED_INPUT",
            reason=reason,
        )


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("origins", "user"),
    [
        (lambda _: "192.0.2.1", None),
        (lambda number: f"10.{number >> 8}.{number & 255}.1", None),
        (lambda number: f"2001:db8::{number:x}", None),
        (lambda _: "192.0.2.1", "nobody"),
    ],
    ids=["stranger", "many addresses", "one network", "NoAccess"],
)
async def test_ten_thousand_refused_calls(origins: Callable[[int], str], user: str | None) -> None:
    """Within a minute or over a day: they take bounded space and push out no user's record."""
    store = MemoryStore()
    log = AuditLog(store, monotonic=asyncio.get_running_loop().time)
    victims = [replace(next(knocks(lambda _: "198.51.100.7")), user=name) for name in ("a", "b")]
    for victim in victims:
        await log.record(victim, access=False)
        await log.record(victim, access=True)
    before = bytes_written(store)
    for entry in knocks(origins, user):
        await log.record(entry, access=user is None)
    assert bytes_written(store) - before < 61 * LARGEST_RECORD
    for number, entry in enumerate(knocks(origins, user)):
        await log.record(entry, access=user is None)
        if number % 200 == 0:
            await asyncio.sleep(60)
    assert await bytes_kept(store) < 2000 * LARGEST_RECORD
    await log.record_omitted()
    kept_of = [record.user for record in await log.list()]
    assert (kept_of.count("a"), kept_of.count("b")) == (2, 2)


@pytest.mark.looptime
async def test_many_logins_of_one_user() -> None:
    """They push no login of another user out of the audit."""
    store = MemoryStore()
    log = AuditLog(store, monotonic=asyncio.get_running_loop().time)
    login = replace(next(knocks(lambda _: "192.0.2.1", "anna")), result="OK", reason=None)
    await log.record(login, access=True)
    for number in range(3 * MAX_ACCESS):
        await log.record(replace(login, user="nobody"), access=True)
        if number % USER_A_MINUTE == 0:
            await asyncio.sleep(60)
    users = [record.user for record in await log.list()]
    assert (users.count("anna"), users.count("nobody")) == (1, MAX_ACCESS)


async def test_what_a_stranger_is_refused_pushes_out_no_change(edge: Edge) -> None:
    """Through the real entry point: before authentication every call is a stranger's."""
    await edge.client.post(JOINS, json={"x": 1})
    headers = await edge.headers()
    await edge.client.post("/api/cis/tasks/t-1?action=cancel", headers=headers)
    users = {record.id[0]: record.user for record in await edge.audit.list()}
    assert users == {"s": None, "c": ADMINISTRATOR}


async def logs_in(edge: Edge, name: str, times: int) -> list[str]:
    """Log in this many times, a second apart, and return the tokens, oldest first."""
    user = await edge.users.find(name)
    assert user is not None
    tokens = []
    for _ in range(times):
        tokens.append((await edge.sessions.create(user)).reveal())
        edge.clock.advance(seconds=1)
    return tokens


async def alive(edge: Edge, token: str) -> bool:
    reply = await edge.client.get("/api/session", headers={"vmware-api-session-id": token})
    return reply.status_code == 200


async def test_a_user_has_so_many_sessions(edge: Edge) -> None:
    """The session unused for longest is ended; no other user's is."""
    (other,) = await logs_in(edge, ADMINISTRATOR, 1)
    first, second, *_ = await logs_in(edge, NOBODY, MAX_PER_USER)
    edge.clock.advance(minutes=1)
    assert await alive(edge, first)  # which counts as a use
    (newest,) = await logs_in(edge, NOBODY, 1)
    assert [await alive(edge, each) for each in (first, second, newest, other)] == [
        True,
        False,
        True,
        True,
    ]
    assert len(await edge.store.prefix(keys.SESSIONS)) == MAX_PER_USER + 1
    assert len(edge.store._leases) == MAX_PER_USER + 1


async def test_a_user_begins_so_many_sessions_a_minute(edge: Edge) -> None:
    """More would fill the store although they end at once; another user's are not affected."""
    user = await edge.users.find(NOBODY)
    assert user is not None
    sessions = Sessions(
        edge.store, edge.users, clock=edge.clock, per_user=1, monotonic=edge.clock.seconds
    )
    for _ in range(MAX_CREATED_PER_MINUTE):
        await sessions.create(user)
    with pytest.raises(ApiError) as caught:
        await sessions.create(user)
    error = caught.value
    assert (error.error_type, error.retry_after) == (ErrorType.SERVICE_UNAVAILABLE, 60)
    administrator = await edge.users.find(ADMINISTRATOR)
    assert administrator is not None
    await sessions.create(administrator)
    edge.clock.advance(minutes=1)
    await sessions.create(user)


@pytest.mark.parametrize("workers", [2, 4])
async def test_all_workers_together_write_no_more_than_one(edge: Edge, workers: int) -> None:
    """The store is one, however many processes serve the API: sessions and records per minute."""
    seconds = edge.clock.seconds
    audits = [AuditLog(edge.store, monotonic=seconds, workers=workers) for _ in range(workers)]
    for number, entry in enumerate(knocks(lambda number: f"10.{number % 200}.0.1")):
        await audits[number % workers].record(entry, access=False)
    stored = [record for record in await audits[0].list() if record.user is None]
    assert 0 < len(stored) <= STRANGERS_A_MINUTE
    names = [f"user-{number}" for number in range(8)]
    for name in names:
        await edge.users.add(name, Secret(PASSWORD), UserRole.READ_ONLY)
    users = [user for user in await edge.users.list() if user.name in names]
    begun = 0
    for _ in range(workers):
        sessions = Sessions(
            edge.store, edge.users, clock=edge.clock, per_user=1, monotonic=seconds, workers=workers
        )
        for user in users:
            with suppress(ApiError):
                for _ in range(MAX_CREATED_PER_MINUTE + 1):
                    await sessions.create(user)
                    begun += 1
    assert begun == MAX_CREATED_PER_MINUTE_TOTAL


class FullStore(MemoryStore):
    """Refuses writes except deletes while it is ``full``, as etcd does."""

    full = False

    async def lease_grant(self, ttl: int) -> int:
        self._require_room()
        return await super().lease_grant(ttl)

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        if any(isinstance(action, Put) for action in (*success, *failure)):
            self._require_room()
        return await super().txn(compares, success, failure)

    def _require_room(self) -> None:
        if self.full:
            raise StoreFull("https://a: etcdserver: mvcc: database space exceeded")


async def test_a_full_store_is_told_and_hinders_no_read() -> None:
    """A login fails with the reason and what to do; sessions, passwords and logouts still work."""
    store = FullStore()
    edge = await make_edge(store)
    await edge.users.add(ADMINISTRATOR, Secret(PASSWORD), UserRole.ADMINISTRATOR)
    async with edge.client:
        headers = await edge.headers()
        store.full = True
        edge.clock.advance(minutes=5)
        for path, text in (("/api/session", "messages"), ("/rest/com/vmware/cis/session", "value")):
            refused = await edge.client.post(path, auth=(ADMINISTRATOR, PASSWORD))
            assert refused.status_code == 503
            assert text in refused.json()
            assert "vcha node store defragment" in refused.text
        read = "/api/vcenter/vcha/operations"
        for who in ({"headers": headers}, {"auth": (ADMINISTRATOR, PASSWORD)}):
            assert (await edge.client.get(read, **who)).status_code == 200
        assert (await edge.client.get(read, auth=(ADMINISTRATOR, "wrong"))).status_code == 401
        assert (await edge.client.delete("/api/session", headers=headers)).status_code == 204
