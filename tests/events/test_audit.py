"""The audit records changes, never a secret, and never blocks a call."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from openvcha.api.errors import ApiError
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import AuditFilterSpec, AuditInfo, ConnectionSpec, CredentialsSpec
from openvcha.events import audit
from openvcha.events.audit import (
    MAX_AGE,
    MAX_ARGUMENTS,
    MAX_STRANGERS,
    MAX_TEXT,
    PATIENCE_SECONDS,
    STRANGER_A_MINUTE,
    STRANGERS_A_MINUTE,
    USER_A_MINUTE,
    AuditLog,
    arguments_text,
)
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore

pytestmark = pytest.mark.looptime
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ENTRY = AuditInfo(
    id="", time=NOW, user="u", origin="127.0.0.1", protocol="rest", operation="x.y", result="OK"
)
STRANGER = replace(ENTRY, user=None, result="UNAUTHENTICATED")


def seconds() -> float:
    return asyncio.get_running_loop().time()


class Time:
    """A clock that is set by hand."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def log(store: MemoryStore, time: Time) -> AuditLog:
    return AuditLog(store, time, seconds)


async def test_records_are_numbered_dated_and_listed_in_order(log: AuditLog, time: Time) -> None:
    """From both rings together, by time."""
    for second, access in enumerate((False, True, False)):
        time.now = NOW + timedelta(seconds=second)
        await log.record(ENTRY, access=access)
    found = await log.list()
    assert [record.id for record in found] == ["c1", "a1", "c2"]
    assert [record.time.second for record in found] == [0, 1, 2]
    assert [record.id for record in await log.list(AuditFilterSpec(limit=2))] == ["a1", "c2"]
    with pytest.raises(ApiError):
        await log.list(AuditFilterSpec(limit=0))


async def test_records_made_at_the_same_time_are_all_kept(
    store: MemoryStore, log: AuditLog
) -> None:
    """Even by two processes, as for a moment around a takeover."""
    other = AuditLog(store)
    async with asyncio.TaskGroup() as group:
        for each in (log, other) * 10:
            group.create_task(each.record(ENTRY, access=False))
    assert sorted(int(record.id[1:]) for record in await log.list()) == list(range(1, 21))


async def test_no_more_than_the_limit_are_kept(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And mere logins push out no changes, nor another user's records."""
    monkeypatch.setattr(audit, "MAX_CHANGES", 4)
    monkeypatch.setattr(audit, "MAX_ACCESS", 4)
    log = AuditLog(store, monotonic=seconds)
    await log.record(ENTRY, access=False)
    for access in (False, True):
        for _ in range(9):
            await log.record(replace(ENTRY, user="v"), access=access)
    kept = sorted(record.id for record in await log.list())
    assert kept == ["a6", "a7", "a8", "a9", "c1", "c10", "c7", "c8", "c9"]
    assert len(await store.prefix(keys.AUDIT)) == 9


async def test_a_stranger_gets_some_records_a_minute(log: AuditLog, time: Time) -> None:
    """Without a password nobody may fill the store; the omitted ones are counted."""
    for _ in range(STRANGER_A_MINUTE + 5):
        await log.record(STRANGER, access=True)
    await log.record(replace(STRANGER, origin="127.0.0.2"), access=True)
    assert len(await log.list()) == STRANGER_A_MINUTE + 1
    await asyncio.sleep(60)
    time.now = NOW + timedelta(seconds=60)
    await log.record_omitted()
    await log.record_omitted()
    *_, last = await log.list()
    assert len(await log.list()) == STRANGER_A_MINUTE + 2
    assert last.reason == message("audit.more", 5, "127.0.0.1")
    assert (last.result, last.arguments) == ("UNAUTHENTICATED", None)


async def test_that_some_were_left_out_is_told_with_the_next_call(log: AuditLog) -> None:
    """By any caller, without delaying the call."""
    for _ in range(STRANGER_A_MINUTE + 1):
        await log.record(STRANGER, access=True)
    await asyncio.sleep(60)
    await log.record(ENTRY, access=True)
    await asyncio.sleep(1)
    assert message("audit.more", 1, "127.0.0.1") in [each.reason for each in await log.list()]


async def test_strangers_together_get_some_records_a_minute(log: AuditLog) -> None:
    """Many addresses do not get more; an IPv6 network is one."""
    for number in range(3 * STRANGERS_A_MINUTE):
        await log.record(replace(STRANGER, origin=f"10.0.{number}.1"), access=True)
    assert len(await log.list()) == STRANGERS_A_MINUTE
    await asyncio.sleep(60)
    for number in range(3 * STRANGER_A_MINUTE):
        await log.record(replace(STRANGER, origin=f"2001:db8:1:2::{number:x}"), access=True)
    await asyncio.sleep(1)
    networks = [
        each for each in await log.list() if each.origin.startswith("2001") and not each.reason
    ]
    assert len(networks) == STRANGER_A_MINUTE


def kept(records: tuple[AuditInfo, ...], origin: str) -> int:
    return sum(each.origin == origin for each in records)


@pytest.mark.parametrize(
    "flood",
    ["2001:db8:1:{:x}::1", "198.51.100.{}", "{}.1.1.1", "2001:db8:{:x}::1"],
    ids=["one site", "one IPv4 network", "IPv4", "IPv6"],
)
async def test_a_flood_of_addresses_costs_only_its_own_kind(log: AuditLog, flood: str) -> None:
    """A thief cannot have their own refused calls pushed out by calls from other addresses."""
    thief = replace(STRANGER, origin="192.0.2.7")
    for _ in range(5):
        await log.record(thief, access=True)
    for number in range(1, 2 * MAX_STRANGERS):
        if number % STRANGERS_A_MINUTE == 0:
            await asyncio.sleep(60)
        await log.record(replace(STRANGER, origin=flood.format(number)), access=True)
    found = await log.list()
    assert kept(found, thief.origin) == 5
    assert kept(found, flood.format(2 * MAX_STRANGERS - 1)) == 1
    assert len({each.origin for each in found}) <= MAX_STRANGERS


async def test_a_flood_of_one_site_costs_no_single_record_of_another(log: AuditLog) -> None:
    """Even if each of its addresses has more records."""
    thief = replace(STRANGER, origin="192.0.2.7")
    await log.record(thief, access=True)
    for number in range(2 * MAX_STRANGERS):
        if number % (STRANGERS_A_MINUTE // 3) == 0:
            await asyncio.sleep(60)
        for _ in range(2):
            origin = f"2001:db8:1:{number:x}::1"
            await log.record(replace(STRANGER, origin=origin), access=True)
    assert kept(await log.list(), thief.origin) == 1


async def test_what_a_user_is_refused_has_a_budget_too(log: AuditLog) -> None:
    """Permitted changes have none."""
    refused = replace(ENTRY, result="UNAUTHORIZED")
    for _ in range(USER_A_MINUTE + 9):
        await log.record(refused, access=False)
        await log.record(replace(ENTRY, user="v"), access=False)
    found = await log.list()
    assert [each.user for each in found].count("u") == USER_A_MINUTE
    assert [each.user for each in found].count("v") == USER_A_MINUTE + 9


async def test_no_change_waits_for_refused_calls(
    log: AuditLog, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes 0.1 s for each write: 60 refused calls would use up a change's second."""
    transact = store.txn

    async def slow(*told: Any) -> Any:
        await asyncio.sleep(0.1)
        return await transact(*told)

    monkeypatch.setattr(store, "txn", slow)
    async with asyncio.TaskGroup() as group:
        for _ in range(USER_A_MINUTE):
            group.create_task(log.record(replace(ENTRY, result="UNAUTHORIZED"), access=False))
        await asyncio.sleep(0.01)
        group.create_task(log.record(replace(ENTRY, user="v"), access=False))
    found = await log.list()
    assert [each.id for each in found if each.user == "v"] == ["c1"]
    assert {each.id[0] for each in found if each.user == "u"} == {"r"}


async def test_old_records_are_swept(log: AuditLog, time: Time) -> None:
    """In both rings."""
    await log.record(ENTRY, access=False)
    await log.record(ENTRY, access=True)
    time.now = NOW + MAX_AGE + timedelta(seconds=1)
    await log.record(ENTRY, access=True)
    assert await log.sweep() == 2
    assert [record.id for record in await log.list()] == ["a2"]


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_store_that_is_away_holds_nobody_up(
    log: AuditLog, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The record goes to the service's log, and the next one is stored again."""

    async def away(*_: object) -> None:
        if how == "hangs":
            await asyncio.sleep(3600)
        raise StoreUnavailable("away")

    warned: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(store, "txn", away)
        patch.setattr(audit._log, "warning", lambda text, **_: warned.append(text), raising=False)
        begun = seconds()
        await log.record(ENTRY, access=False)
        assert seconds() - begun <= PATIENCE_SECONDS
    assert warned == ["audit record not stored"]
    await log.record(ENTRY, access=False)
    assert [record.id for record in await log.list()] == ["c1"]


def test_arguments_are_shown_without_secrets() -> None:
    """Wherever they occur."""
    location = ConnectionSpec(hostname="h", username="u", password=Secret("tell-nobody"))
    text = arguments_text(
        {"spec": CredentialsSpec(active_location=location), "other": Secret("nor-this")}
    )
    assert "tell-nobody" not in text
    assert "nor-this" not in text
    assert '"password":"***"' in text
    assert '"hostname":"h"' in text
    assert "null" not in text


def test_long_arguments_are_cut() -> None:
    """A record must not grow with the client's input."""
    assert arguments_text({"a": "x" * 10_000}) == '{"a":"' + "x" * MAX_TEXT + '…"}'
    many = arguments_text({"a": ["x" * MAX_TEXT] * (MAX_ARGUMENTS // MAX_TEXT + 1)})
    assert many == '{"a":"…"}'


@pytest.mark.parametrize("value", [b"NaN", b"-5", b"9" * 32, b"\xff", b"1e9", b"[[["])
async def test_a_count_that_cannot_be_read_is_counted_anew(
    store: MemoryStore, log: AuditLog, value: bytes
) -> None:
    """Otherwise a thief who writes it would keep all later records out of the audit."""
    await log.record(ENTRY, access=False)
    counts = await store.prefix(keys.AUDIT_LAST)
    assert len(counts) == 2
    for kv in counts:
        await store.put(kv.key, value)
        await log.record(ENTRY, access=False)
    assert [record.id for record in await log.list()] == ["c1", "c2", "c3"]
