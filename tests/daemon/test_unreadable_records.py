"""An unreadable value is one warning, blocks nothing else, and a command sets it aside."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.api.messages import message
from openvcha.api.structures import EventSeverity, TaskProgress, TaskStatus
from openvcha.api_server.auditing import local_entry
from openvcha.api_server.auth.users import Users
from openvcha.cli.node import store as commands
from openvcha.cluster import leader_key, mode_settings, patroni_client
from openvcha.daemon import unreadable_records
from openvcha.daemon.unreadable_records import (
    MAX_KEPT_BYTES,
    MAX_KEPT_RECORDS,
    READERS,
    SCANNED_PREFIXES,
    RecordInspection,
    SetAsideRecord,
    SetAsideRefused,
    find_unreadable,
    set_aside,
)
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.events.state_diff import EventDraft
from openvcha.store import keys
from openvcha.store.errors import RecordInvalid
from openvcha.store.interface import KeyValue, TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.store.records import decode, encode
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord

NOW = datetime(2026, 11, 26, 18, tzinfo=UTC)
BROKEN = b'{"\xff\x1b[2J'
#: One key of each kind.
KEYS = [
    keys.CLUSTER,
    keys.OPERATION,
    keys.REQUIRED_VOTES,
    keys.required_votes_confirmed("a-1"),
    keys.INVENTORY,
    keys.SEEN_INVENTORY,
    keys.OWED,
    keys.DEFRAGMENTATION,
    keys.ROLL,
    keys.EVENTS_MEMORY,
    keys.task("abc"),
    keys.user("carla"),
    keys.session("00"),
    keys.join_token("passive"),
    keys.boot_token("passive"),
    keys.node_facts("vcha-2"),
    keys.base_backup_report("vcha-2"),
    keys.address_report("vcha-2"),
    keys.EVENTS + "0000000000000001",
    keys.AUDIT + "changes/0000000000000001",
    keys.AUDIT_LAST + "changes",
    keys.PATRONI_CONFIG,
    keys.PATRONI_FAILOVER,
    keys.PATRONI_FAILSAFE,
    keys.PATRONI_LEADER,
    keys.PATRONI_SYNC,
    keys.patroni_member("vcha-2"),
]
LATER_KEYS = (keys.SESSIONS, keys.EVENTS + "0", keys.AUDIT + "changes")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_each_kind_of_key_has_a_reader() -> None:
    """Exactly one reader handles each key, and every reader has a key here."""
    matching = [
        [at for at, (key, _) in enumerate(READERS) if unreadable_records.matches(key, known)]
        for known in KEYS
    ]
    assert [len(found) for found in matching] == [1] * len(KEYS)
    assert {found[0] for found in matching} == set(range(len(READERS)))


@pytest.mark.parametrize("key", KEYS)
async def test_what_cannot_be_read_is_found(store: MemoryStore, key: str) -> None:
    """With its key and reason; the records read all the time are those that others depend on."""
    await store.put(key, BROKEN)
    (found,) = await find_unreadable(store, [keys.ROOT])
    assert found.key == key
    assert found.reason
    often = [one.key for one in await find_unreadable(store, SCANNED_PREFIXES)]
    assert often == ([] if key.startswith(LATER_KEYS) else [key])


async def test_a_key_that_only_begins_alike_is_not_looked_at_twice(store: MemoryStore) -> None:
    """``/openvcha/cluster`` is a key, not a prefix."""
    await store.put(keys.OPERATION + "s", BROKEN)
    assert await find_unreadable(store) == []


async def test_a_look_is_few_requests() -> None:
    """One for all keys but those under the roll, which are read alone to recognize an old roll."""
    asked: list[str] = []

    class Asked(MemoryStore):
        async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
            asked.append(prefix)
            return await super().prefix(prefix, keys_only=keys_only)

        async def txn(self, *arguments: Any) -> TxnResult:
            asked.append("the rest")
            return await super().txn(*arguments)

    assert await find_unreadable(Asked()) == []
    assert asked == ["the rest", keys.USERS, keys.JOINS]


async def test_what_nobody_reads_is_not_unreadable(store: MemoryStore) -> None:
    """Patroni stores more than we read, and a person may have added a key."""
    await store.put(keys.PATRONI + "history", BROKEN)
    await store.put(keys.ROOT + "note", BROKEN)
    assert await find_unreadable(store, [keys.ROOT]) == []


async def test_news_are_noted_and_what_is_mended_is_forgotten(store: MemoryStore) -> None:
    """The warning disappears with its cause."""
    noted: list[tuple[str, ...]] = []
    scan = RecordInspection(store, noted.append).scan
    await scan()
    await store.put(keys.PATRONI_SYNC, BROKEN)
    await scan()
    await store.put(keys.PATRONI_SYNC, b'{"leader": "a", "sync_standby": "b"}')
    await scan()
    assert noted == [(), (keys.PATRONI_SYNC,), ()]


# --- nothing else is blocked


async def test_an_unreadable_sync_names_nobody(store: MemoryStore) -> None:
    """A caller that needs it is told that it is unreadable; no node counts as synchronous."""
    for value in (BROKEN, b"[]", b'{"leader": 5}', b'{"sync_standby": ["b"]}'):
        await store.put(keys.PATRONI_SYNC, value)
        with pytest.raises(RecordInvalid, match=keys.PATRONI_SYNC):
            await patroni_client.sync_state(store)


async def test_an_unreadable_wish_is_never_taken_for_none(store: MemoryStore) -> None:
    """No primary is started while another node may be about to take over."""
    await store.put(keys.PATRONI_FAILOVER, BROKEN)
    with pytest.raises(RecordInvalid):
        await leader_key.is_pending(store)


async def test_an_unreadable_member_hides_no_other(store: MemoryStore) -> None:
    """A Patroni that publishes nonsense counts as silent."""
    await store.put(keys.patroni_member("a"), b'{"state": "running", "pause": true}')
    await store.put(keys.patroni_member("b"), BROKEN)
    assert await patroni_client.member_states(store) == {"a": "running"}
    assert await mode_settings.effective(store) == {"a": frozenset({keys.PAUSE})}


async def test_an_unreadable_task_that_runs_is_told_as_one(store: MemoryStore) -> None:
    """What it does is unknown: another operation is refused, and the refusal names the task."""
    journal = Journal(store)
    await store.put(keys.OPERATION, b"abc")
    await store.put(keys.task("abc"), BROKEN)
    running = await journal.running()
    assert running
    assert (running.id, running.operation_id) == ("abc", "unreadable.task")


async def test_an_unreadable_user_hides_no_other(store: MemoryStore) -> None:
    """The others are listed, and can log in."""
    users = Users(store)
    await store.put(keys.user("bad"), BROKEN)
    await store.put(keys.user("nobody"), BROKEN)
    assert await users.list() == []


async def test_unreadable_events_hide_no_others(store: MemoryStore) -> None:
    """The sequence goes on around them."""
    log = EventLog(store)
    for _ in range(3):
        await log.add(draft())
    await store.put(f"{keys.EVENTS}{2:016}", BROKEN)
    assert [event.id for event in await log.list()] == ["1", "3"]


async def test_events_go_on_with_their_numbers_when_the_memory_was_set_aside(
    store: MemoryStore,
) -> None:
    """Otherwise a reader that follows the numbers would get nothing for a long time."""
    log = EventLog(store)
    for _ in range(3):
        await log.add(draft())
    await store.put(keys.EVENTS_MEMORY, BROKEN)
    await set_aside(store, keys.EVENTS_MEMORY, by="me", now=NOW)
    told = await log.last_reported()
    assert (told.memory.last, told.memory.seen) == (3, None)
    assert told.memory.tasks > 0
    await log.add(draft())
    assert [event.id for event in await log.list()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("aside", [False, True])
async def test_the_audit_goes_on_with_its_numbers_when_its_count_cannot_be_read(
    store: MemoryStore,
    aside: bool,
) -> None:
    """An unreadable counter blocks no call, and no record is overwritten."""
    audit = AuditLog(store)
    entry = local_entry(operation="user.add", user="me", arguments={}, error=None)
    for _ in range(2):
        await audit.record(entry, access=False)
    await store.put(keys.AUDIT_LAST + "changes", BROKEN)
    if aside:
        await set_aside(store, keys.AUDIT_LAST + "changes", by="me", now=NOW)
    await audit.record(entry, access=False)
    assert [record.id for record in await audit.list()] == ["c1", "c2", "c3"]


def draft() -> EventDraft:
    text = message("event.operation.started", "x", "y")
    return EventDraft(type="x", severity=EventSeverity.INFO, message=text)


# --- set aside


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key not in unreadable_records.PROTECTED_KEYS]
)
async def test_what_is_set_aside_is_kept(store: MemoryStore, key: str) -> None:
    """With the user, the time and the reason; its key is free."""
    await store.put(key, BROKEN)
    place = await set_aside(store, key, by="me", now=NOW)
    assert await store.get(key) is None
    kv = await store.get(place)
    assert kv
    kept = decode(kv, SetAsideRecord)
    assert (kept.key, kept.value, kept.size, kept.by, kept.time) == (
        key,
        BROKEN,
        len(BROKEN),
        "me",
        NOW,
    )
    assert kept.reason
    assert await find_unreadable(store, [keys.ROOT]) == []


async def test_a_task_that_is_set_aside_frees_the_operation(store: MemoryStore) -> None:
    """In the same transaction: otherwise the cluster would be busy for ever."""
    await store.put(keys.OPERATION, b"abc")
    await store.put(keys.task("abc"), BROKEN)
    await store.put(keys.task("def"), BROKEN)
    await set_aside(store, keys.task("def"), by="me", now=NOW)
    assert await store.get(keys.OPERATION)
    await set_aside(store, keys.task("abc"), by="me", now=NOW + timedelta(seconds=1))
    assert await store.get(keys.OPERATION) is None


async def test_what_can_be_read_stays_unless_forced(store: MemoryStore) -> None:
    """A person's slip must not lose a valid record."""
    await store.put(keys.PATRONI_SYNC, b"{}")
    with pytest.raises(SetAsideRefused, match="can be read"):
        await set_aside(store, keys.PATRONI_SYNC, by="me", now=NOW)
    assert await store.get(keys.PATRONI_SYNC)
    await set_aside(store, keys.PATRONI_SYNC, by="me", now=NOW, force=True)
    assert await store.get(keys.PATRONI_SYNC) is None


@pytest.mark.parametrize("held", [True, False])
async def test_a_readable_task_that_has_not_ended_stays_even_if_forced(
    store: MemoryStore, held: bool
) -> None:
    """Its VM and its vote would stay, and another operation could begin below its runner."""
    task = await Journal(store).create(
        service="s", operation="o$task", description=message("cluster.failover"), user=None
    )
    if not held:  # such a task holds the operation all the same
        await store.delete(keys.OPERATION)
    with pytest.raises(SetAsideRefused, match=f"vcha task cancel {task.id}"):
        await set_aside(store, keys.task(task.id), by="me", now=NOW, force=True)
    assert await store.get(keys.task(task.id))
    assert bool(await store.get(keys.OPERATION)) is held
    await store.put(keys.task(task.id), BROKEN)
    await set_aside(store, keys.task(task.id), by="me", now=NOW)
    assert await store.get(keys.OPERATION) is None


async def test_a_readable_task_that_has_ended_is_set_aside_if_forced(store: MemoryStore) -> None:
    """Nothing depends on it."""
    text = message("cluster.failover")
    ended = TaskRecord(
        id="abc",
        description=text,
        service="s",
        operation="o$task",
        created=NOW,
        status=TaskStatus.FAILED,
        progress=TaskProgress(total=100, completed=0, message=text),
        cancelable=False,
        may_cancel=True,
    )
    await store.put(keys.task("abc"), encode(ended))
    await set_aside(store, keys.task("abc"), by="me", now=NOW, force=True)
    assert await store.get(keys.task("abc")) is None


@pytest.mark.parametrize(
    "key",
    [
        "/elsewhere",
        keys.ROOT,
        keys.ASIDE + "x",
        keys.PATRONI_LEADER,
        keys.PATRONI_INITIALIZE,
        keys.TASKS,
        keys.task("not there"),
    ],
)
async def test_what_is_no_record_of_ours_is_refused(store: MemoryStore, key: str) -> None:
    """Even with force, and nothing is changed."""
    if key != keys.task("not there"):
        await store.put(key, BROKEN)
    before = await store.prefix("/")
    with pytest.raises(SetAsideRefused):
        await set_aside(store, key, by="me", now=NOW, force=True)
    assert await store.prefix("/") == before


async def test_what_is_kept_is_bounded(store: MemoryStore) -> None:
    """A stranger who writes nonsense repeatedly fills nothing."""
    key, nonsense = keys.PATRONI_SYNC, BROKEN * (MAX_KEPT_BYTES // len(BROKEN) + 1)
    for number in range(MAX_KEPT_RECORDS + 5):
        await store.put(key, nonsense)
        await set_aside(store, key, by="me", now=NOW + timedelta(seconds=number))
    found = await store.prefix(keys.ASIDE)
    assert len(found) == MAX_KEPT_RECORDS
    kept = decode(found[-1], SetAsideRecord)
    assert len(kept.value) == MAX_KEPT_BYTES
    assert kept.size == len(nonsense) > MAX_KEPT_BYTES
    assert kept.time == NOW + timedelta(seconds=MAX_KEPT_RECORDS + 4)


# --- the command


@pytest.fixture
def vcha(store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run `vcha node store` on the simulated store."""

    async def with_store(_: Path, work: Any) -> Any:
        return await work(store)

    monkeypatch.setattr(commands, "_with_store", with_store)
    return lambda name, *rest: CliRunner().invoke(commands.app, [name, str(tmp_path), *rest])


async def test_the_command_lists_sets_aside_and_is_audited(store: MemoryStore, vcha: Any) -> None:
    """Strangers' text does not reach the terminal unescaped."""
    key = keys.user("carla")
    await store.put(key, BROKEN)
    listed = await asyncio.to_thread(vcha, "list")
    assert key in listed.output
    assert "\x1b" not in listed.output
    done = await asyncio.to_thread(vcha, "set-aside", key)
    assert done.exit_code == 0, done.output
    refused = await asyncio.to_thread(vcha, "set-aside", key)
    assert refused.exit_code == 1
    assert "all records can be read" in (await asyncio.to_thread(vcha, "list")).output
    records = await AuditLog(store).list()
    assert [(r.operation, r.result) for r in records] == [
        ("store.set-aside", "OK"),
        ("store.set-aside", "NOT_ALLOWED_IN_CURRENT_STATE"),
    ]
    assert all(key in (record.arguments or "") for record in records)


@pytest.mark.parametrize("options", [["--force"], ["--force", "--yes"]])
async def test_the_command_asks_before_it_is_forced(
    store: MemoryStore, vcha: Any, options: list[str]
) -> None:
    """Without an answer nothing is changed."""
    await store.put(keys.PATRONI_SYNC, b"{}")
    done = await asyncio.to_thread(vcha, "set-aside", keys.PATRONI_SYNC, *options)
    confirmed = "--yes" in options
    assert (done.exit_code == 0) is confirmed, done.output
    assert (await store.get(keys.PATRONI_SYNC) is None) is confirmed
