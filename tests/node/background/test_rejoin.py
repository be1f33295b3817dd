"""A stuck standby takes a new base backup; its old data are kept until that is in sync."""

import asyncio
import datetime as dt
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.background import rejoin
from openvcha.node.background.cluster_records import ClusterRecords, ObservedMembers
from openvcha.node.background.standby_progress import (
    RETRY_BASE_BACKUP_SECONDS,
    WORKING_SECONDS,
    StandbyObservation,
    StandbyWatch,
    observe_standby,
)
from openvcha.node.etcd.endpoints import ProvenNames
from openvcha.node.identity import Timers
from openvcha.node.layout import Layout
from openvcha.node.postgres.leader import BaseBackupFailed, Leader
from openvcha.node.postgres.standby_data import old_data
from openvcha.node.postgres.standby_data.base_backup import SPARE_BYTES
from openvcha.node.postgres.standby_data.old_data import (
    discard_old_data,
    list_old_data,
    remove_discarded,
    restore_old_data,
    set_data_aside,
)
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.node.process.process_tree import Process
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import KeyValue, Member
from openvcha.store.memory import MemoryStore
from openvcha.system.proc import open_files

pytestmark = pytest.mark.looptime

PRIMARY = {"role": "primary", "state": "running"}
STANDBY = {"role": "replica", "state": "running", "replay_lsn": 100}
ROOM = 10 << 30
STUCK_SECONDS = Timers().stuck_standby
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Members(MemoryStore):
    """A store whose voters have these names."""

    names: tuple[str, ...] = ("own", "other", "witness")

    silent = False
    """Whether it has no quorum."""

    reads = 0

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        self.reads += 1
        if self.silent:
            raise StoreUnavailable("no quorum")
        return await super().prefix(prefix, keys_only=keys_only)

    async def members(self) -> list[Any]:
        if self.silent or not self.names:
            raise StoreUnavailable("no quorum")
        return [
            Member(number, name, (f"https://127.1.1.{number}:2380",), ())
            for number, name in enumerate(self.names, 1)
        ]


class StuckStandby:
    """Node ``own``, whose standby is stuck behind the primary ``other``."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(directory)
        self.layout.pgdata.mkdir()
        (self.layout.pgdata / "row").write_text("old")
        self.store = Members()
        self.log = RotatingLog(directory / "log")
        self.done: list[str] = []
        self.told: list[str | None] = []
        self.copies = True
        self.leader: Leader | None = Leader("other", "127.1.1.1", 5432, 1000, 15)
        self.free = ROOM
        self.on_halt = ""
        self.ready = asyncio.Event()
        self.proven = ProvenNames()
        self.records: ClusterRecords | None = None
        patch.setattr(rejoin, "find_leader", self.find_leader)
        patch.setattr(rejoin, "load_secrets", lambda _: None)
        patch.setattr(rejoin, "find_tree", lambda _: [])
        patch.setattr(rejoin, "kill_tree", lambda _, **__: self.done.append("end postgres"))
        self.view: Any = SimpleNamespace(
            identity=SimpleNamespace(
                member="own", holds_data=True, timers=Timers(), ha_address="127.1.1.1"
            ),
            layout=self.layout,
            engines=SimpleNamespace(postgres=None),
            store=self.store,
            events=logger(self.log, "test"),
            control=self,
        )
        self.job: asyncio.Task[None] | None = None

    async def find_leader(self, *_: Any) -> Leader:
        if self.leader is None:
            raise BaseBackupFailed("cannot be asked", temporary=True)
        return self.leader

    async def halt(self, name: str) -> None:
        self.done.append(f"halt {name}")
        if self.on_halt:
            await self.tell_leader(self.on_halt)

    def begin(self, name: str) -> None:
        there = (self.layout.pgdata / "row").exists()
        self.done.append(f"begin {name}" if there else "Patroni makes a new database")

    async def base_backup(self) -> bool:
        assert self.kept() == ["old"]
        self.done.append("base backup")
        if self.copies:
            self.layout.pgdata.mkdir()
            (self.layout.pgdata / "row").write_text("new")
        return self.copies

    async def break_down(self) -> bool:
        raise OSError("input/output error")

    def tell(self, _: str, text: str | None) -> None:
        self.told.append(text)

    def kept(self) -> list[str]:
        return [(path / "row").read_text() for path in list_old_data(self.layout)]

    async def put(self, key: str, fields: dict[str, Any]) -> None:
        await self.store.put(key, json.dumps(fields).encode())

    async def tell_leader(self, name: str, standby: str | None = None) -> None:
        await self.store.put(keys.PATRONI_LEADER, name.encode())
        await self.put(keys.PATRONI_SYNC, {"leader": name, "sync_standby": standby})

    async def begin_stuck(self) -> None:
        await self.tell_leader("other")
        await self.put(keys.patroni_member("other"), PRIMARY)
        await self.put(keys.patroni_member("own"), STANDBY)
        await self.begin_duty()

    async def begin_duty(self) -> None:
        """Start the job, as the supervisor does each time it ends."""
        job = rejoin.Rejoin(self.view, free_bytes=lambda _: self.free)
        self.job = asyncio.create_task(job.run())

    async def note_records(self, began: float) -> None:
        """Have the node observe its cluster, as it does every second."""
        found = {kv.key: kv for kv in await self.store.prefix(keys.PATRONI)}
        self.records = ClusterRecords(began, found, ObservedMembers(began, ()))

    async def joined(self) -> None:
        await self.put(keys.patroni_member("own"), STANDBY | {"replication_state": "streaming"})
        await self.tell_leader("other", "own")

    @property
    def row(self) -> str:
        return (self.layout.pgdata / "row").read_text()


@pytest.fixture
async def standby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StuckStandby]:
    made = StuckStandby(tmp_path, monkeypatch)
    yield made
    made.log.close()
    if made.job:
        made.job.cancel()
        await asyncio.wait([made.job])


async def test_a_stuck_standby_takes_a_base_backup_and_the_old_data_kept_until_in_sync(
    standby: StuckStandby,
) -> None:
    """Streaming is not enough: only a node named in /sync has every acknowledged row."""
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert standby.done == ["halt patroni", "end postgres", "base backup", "begin patroni"]
    assert (standby.row, standby.kept()) == ("new", ["old"])
    assert "kept until the copy is in sync" in str(standby.told[-1])
    await standby.put(keys.patroni_member("own"), STANDBY | {"replication_state": "streaming"})
    await standby.tell_leader("other", "third")
    await asyncio.sleep(60)
    assert standby.kept() == ["old"]
    await standby.joined()
    await asyncio.sleep(5)
    assert standby.kept() == []
    assert standby.row == "new"
    assert standby.told[-1] is None


@pytest.mark.parametrize("fresh", [True, False])
async def test_while_the_node_sees_its_standby_well_the_store_is_not_asked(
    standby: StuckStandby, fresh: bool
) -> None:
    """What the node's own observation has just read is enough, and no longer than that."""
    await standby.joined()
    await standby.put(keys.patroni_member("other"), PRIMARY)
    clock = asyncio.get_running_loop().time
    await standby.note_records(clock() - (0 if fresh else rejoin.MAX_RECORDS_AGE_SECONDS))
    standby.store.reads = 0
    await standby.begin_duty()
    await asyncio.sleep(rejoin.POLL_SECONDS / 2)
    assert standby.store.reads == (0 if fresh else 1)


async def test_a_standby_that_is_not_seen_well_is_looked_at_closely(
    standby: StuckStandby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its processes do is no part of the records: a rewind may take long."""
    rewind = Process(7, 1, 1, ("/usr/lib/postgresql/15/bin/pg_rewind", "-D", "x"))
    monkeypatch.setattr(rejoin, "find_tree", lambda _: [rewind])
    await standby.begin_stuck()
    clock = asyncio.get_running_loop().time
    for _ in range(2 * int(STUCK_SECONDS)):
        await standby.note_records(clock())
        await asyncio.sleep(1)
    assert standby.done == []
    monkeypatch.setattr(rejoin, "find_tree", lambda _: [])
    for _ in range(int(STUCK_SECONDS) + 5):
        await standby.note_records(clock())
        await asyncio.sleep(1)
    assert "base backup" in standby.done


async def test_how_long_a_standby_may_be_stuck_is_a_setting(standby: StuckStandby) -> None:
    """A lab that waits for less copies earlier."""
    standby.view.identity.timers = Timers(stuck_standby=8)
    await standby.begin_stuck()
    await asyncio.sleep(5)
    assert standby.done == []
    await asyncio.sleep(8)
    assert "base backup" in standby.done


@pytest.mark.parametrize("names", [("other", "successor", "witness"), ()])
async def test_a_node_that_was_removed_copies_nothing(
    standby: StuckStandby, names: tuple[str, ...]
) -> None:
    """It is no standby of the cluster any more, so its data stay; also while that is unknown."""
    standby.store.names = names
    await standby.begin_stuck()
    await asyncio.sleep(2 * STUCK_SECONDS)
    assert standby.done == []
    assert standby.row == "old"


async def test_a_base_backup_that_did_not_help_is_not_made_again_at_once(
    standby: StuckStandby,
) -> None:
    """Nothing is gained, and each base backup takes space."""
    await standby.begin_stuck()
    await asyncio.sleep(10 * STUCK_SECONDS)
    assert standby.done.count("halt patroni") == 1


@pytest.mark.parametrize("named", ["own", "nobody", "unconfirmed", "not primary", "paused"])
async def test_without_a_primary_elsewhere_nothing_is_touched(
    standby: StuckStandby, named: str
) -> None:
    """The node's data may be the last copy."""
    await standby.begin_stuck()
    match named:
        case "own":
            await standby.tell_leader("own")
        case "nobody":
            await standby.store.delete(keys.PATRONI_LEADER)
        case "unconfirmed":
            await standby.put(keys.PATRONI_SYNC, {"leader": "own", "sync_standby": "other"})
        case "not primary":
            await standby.put(keys.patroni_member("other"), STANDBY)
        case _:
            await standby.put(keys.PATRONI_CONFIG, {"pause": True})
    await asyncio.sleep(10 * STUCK_SECONDS)
    assert standby.done == []
    assert standby.row == "old"


async def test_the_guard_holds_at_the_very_moment(standby: StuckStandby) -> None:
    """The primary changed while PostgreSQL was being stopped: the data stay."""
    standby.on_halt = "third"
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert standby.done == ["halt patroni", "end postgres", "begin patroni"]
    assert (standby.row, standby.kept()) == ("old", [])


@pytest.mark.parametrize(("now", "primary"), [("third", True), ("other", False), ("unknown", True)])
async def test_at_the_very_moment_the_same_primary_is_still_there(
    standby: StuckStandby, monkeypatch: pytest.MonkeyPatch, now: str, primary: bool
) -> None:
    """Another primary, a former primary, or an unknown state is not enough."""
    state = json.dumps(PRIMARY if primary else STANDBY).encode()
    halt = standby.halt

    async def halted(name: str) -> None:
        await halt(name)
        standby.store.silent = now == "unknown"
        if not standby.store.silent:
            await standby.store.put(keys.patroni_member(now), state)
            await standby.tell_leader(now)

    monkeypatch.setattr(standby, "halt", halted)
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert standby.done == ["halt patroni", "end postgres", "begin patroni"]
    assert (standby.row, standby.kept()) == ("old", [])


async def test_time_in_which_nothing_is_known_does_not_count(standby: StuckStandby) -> None:
    """The standby may have advanced all the while; and no silence ends the job."""
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS - 10)
    standby.store.silent = True
    await asyncio.sleep(4 * STUCK_SECONDS)
    standby.store.silent = False
    await asyncio.sleep(STUCK_SECONDS - 10)
    assert standby.done == []
    await asyncio.sleep(20)
    assert "base backup" in standby.done


async def test_without_a_primary_nothing_is_said_of_a_stuck_standby(standby: StuckStandby) -> None:
    """Nor is anything tried, even on a node without data."""
    set_data_aside(standby.layout, NOW)
    await standby.begin_stuck()
    await standby.store.delete(keys.PATRONI_LEADER)
    await asyncio.sleep(2 * STUCK_SECONDS)
    assert standby.done == []
    assert set(standby.told) == {None}
    assert standby.kept() == ["old"]


async def test_where_postgres_cannot_be_ended_patroni_goes_on_with_the_old_data(
    standby: StuckStandby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job fails with the reason, so that it is shown; the supervisor restarts it."""

    def breaks(*_: Any, **__: Any) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(rejoin, "kill_tree", breaks)
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert standby.done == ["halt patroni", "begin patroni"]
    assert (standby.row, standby.kept()) == ("old", [])
    assert standby.job is not None
    assert standby.job.done()
    assert isinstance(standby.job.exception(), OSError)


async def test_nothing_but_postgres_is_ended(
    standby: StuckStandby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's vote and its other programs are unaffected."""
    programs = [Process(1, 0, 1, ("/usr/lib/postgres", "-D", "x")), Process(2, 0, 1, ("etcd",))]
    ended: list[int] = []

    def end(_: Path, which: Callable[[Process], bool]) -> None:
        ended.extend(process.pid for process in programs if which(process))

    monkeypatch.setattr(rejoin, "kill_tree", end)
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert ended == [1]


@pytest.mark.parametrize("holds_data", [True, False])
async def test_a_half_deletion_is_finished_when_the_node_is_ready(
    standby: StuckStandby, holds_data: bool
) -> None:
    """Before that nothing is touched; on a witness nothing ever."""
    standby.view.identity.holds_data = holds_data
    half = standby.layout.root / "pgdata.discarded-1"
    half.mkdir()
    standby.job = asyncio.create_task(rejoin.rejoin(standby.view))
    await asyncio.sleep(5)
    assert half.exists()
    standby.ready.set()
    await asyncio.sleep(5)
    assert half.exists() is not holds_data
    assert not standby.job.done()


HealthReporter = tuple[bytes, dict[str, Any], dict[str, Any], dict[str, Any]]
"""The leader key, /sync, what ``other`` says of itself, what ``own`` does."""
OWN_STREAMS = STANDBY | {"replication_state": "streaming"}
OTHERS: HealthReporter = (
    b"other",
    {"leader": "other", "sync_standby": "own"},
    PRIMARY,
    OWN_STREAMS,
)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (OTHERS, ("other", True, True)),
        ((*OTHERS[:3], STANDBY), ("other", False, False)),
        ((*OTHERS[:2], PRIMARY | {"state": "starting"}, OWN_STREAMS), (None, True, True)),
        ((*OTHERS[:2], STANDBY, OWN_STREAMS), (None, True, True)),
        ((b"other", {"leader": "other"}, *OTHERS[2:]), ("other", True, False)),
        ((b"other", {"leader": "own", "sync_standby": "own"}, *OTHERS[2:]), (None, True, False)),
        ((b"", {"leader": None, "sync_standby": "own"}, *OTHERS[2:]), (None, True, False)),
        (
            (b"own", {"leader": "own", "sync_standby": "other"}, STANDBY, PRIMARY),
            (None, True, True),
        ),
        ((b"own", {"leader": "own"}, STANDBY, PRIMARY), (None, True, False)),
    ],
    ids=str,
)
async def test_what_patroni_says_of_the_standby(
    standby: StuckStandby, told: HealthReporter, expected: tuple[str | None, bool, bool]
) -> None:
    """It decides whether old data are discarded and a base backup starts: each answer counts."""
    leader, sync, other, own = told
    await standby.store.put(keys.PATRONI_LEADER, leader)
    await standby.put(keys.PATRONI_SYNC, sync)
    await standby.put(keys.patroni_member("other"), other)
    await standby.put(keys.patroni_member("own"), own)
    found = observe_standby("own", await standby.store.prefix(keys.PATRONI), ())
    assert (found.source, found.well, found.in_sync) == expected


@pytest.mark.parametrize("why", ["room", "leader", "changed"])
async def test_what_hinders_is_told_and_nothing_is_done(standby: StuckStandby, why: str) -> None:
    """Without space for both copies, or when the primary itself does not answer."""
    if why == "room":
        standby.free = SPARE_BYTES + 999
    elif why == "changed":
        standby.leader = Leader("third", "127.1.1.1", 5432, 1000, 15)
    else:
        standby.leader = None
    await standby.begin_stuck()
    await asyncio.sleep(10 * STUCK_SECONDS)
    assert standby.done == []
    said = {
        "room": "must hold the old data",
        "leader": "cannot be asked",
        "changed": "the primary has just changed",
    }
    assert said[why] in str(standby.told)


async def test_a_base_backup_that_fails_for_good_gives_the_old_data_back(
    standby: StuckStandby,
) -> None:
    """A node without data would be worse than one with old data."""
    standby.copies = False
    standby.layout.incomplete_base_backup.mkdir()
    await standby.begin_stuck()
    await asyncio.sleep(3 * STUCK_SECONDS)
    assert not standby.layout.incomplete_base_backup.exists()
    assert standby.done == ["halt patroni", "end postgres", "base backup", "begin patroni"]
    assert (standby.row, standby.kept()) == ("old", [])


async def test_a_base_backup_that_breaks_leaves_patroni_halted_and_is_made_again(
    standby: StuckStandby,
) -> None:
    """Without data Patroni would bootstrap its own."""
    works, standby.base_backup = standby.base_backup, standby.break_down  # type: ignore[method-assign]  # it breaks
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 5)
    assert standby.done == ["halt patroni", "end postgres"]
    assert standby.kept() == ["old"]
    standby.base_backup = works  # type: ignore[method-assign]  # see above
    await standby.begin_duty()
    await asyncio.sleep(5)
    assert standby.done[-2:] == ["base backup", "begin patroni"]
    assert (standby.row, standby.kept()) == ("new", ["old"])


async def test_a_standby_that_comes_on_is_left_alone(standby: StuckStandby) -> None:
    """However slowly."""
    await standby.begin_stuck()
    for position in range(101, 110):
        await standby.put(keys.patroni_member("own"), STANDBY | {"replay_lsn": position})
        await asyncio.sleep(STUCK_SECONDS - 5)
    assert standby.done == []


def observation(*places: str, workers: frozenset[int] = frozenset()) -> StandbyObservation:
    return StandbyObservation("other", False, False, False, frozenset(places), workers)


async def test_a_crash_loop_is_no_progress_and_long_work_has_its_time() -> None:
    """Positions seen before do not count; a rewind in progress does, within its limit."""
    watch = StandbyWatch(0)
    quiet = [watch.quiet_seconds(observation("a" if at % 2 else "b"), at) for at in range(40)]
    assert quiet[-1] > 30
    watch = StandbyWatch(0)
    rewind = frozenset({7})
    quiet = [watch.quiet_seconds(observation("a", workers=rewind), at) for at in range(0, 1000, 2)]
    assert max(quiet[: int(WORKING_SECONDS) // 2]) <= 2
    assert quiet[-1] > STUCK_SECONDS
    watch = StandbyWatch(0)
    loop = [watch.quiet_seconds(observation("a", workers=frozenset({at})), at) for at in range(40)]
    assert loop[-1] > 30


@pytest.mark.parametrize(
    "between",
    [{"well": True}, {"paused": True}, {"source": None}, {"source": "third"}],
    ids=str,
)
async def test_what_is_no_being_stuck_begins_the_time_anew(between: dict[str, Any]) -> None:
    """A standby that is healthy, held back, or has no primary or a new one."""
    watch = StandbyWatch(0)
    watch.quiet_seconds(observation("a"), 0)
    assert watch.quiet_seconds(observation("a"), 20) == 20
    changed = replace(observation("a"), **between)
    assert watch.quiet_seconds(changed, 40) == 0
    lasts = 20 if between == {"source": "third"} else 0
    assert watch.quiet_seconds(changed, 60) == lasts


@pytest.mark.parametrize("name", ["timeline", "receive_lsn", "replay_lsn"])
async def test_each_thing_that_grows_is_progress(standby: StuckStandby, name: str) -> None:
    """A standby receives long before it replays, and changes its timeline before both."""
    places = []
    for value in (1, 2):
        await standby.put(keys.patroni_member("own"), {"state": "running", name: value})
        places.append(observe_standby("own", await standby.store.prefix(keys.PATRONI), ()).places)
    assert places[1] - places[0]


async def test_what_runs_already_is_not_waited_for_as_a_recovery(standby: StuckStandby) -> None:
    """A running standby has a startup process for ever."""
    startup = Process(3, 0, 1, ("postgres: cluster: startup recovering 00000001",))
    for state, workers in (("starting", {3}), ("running", set())):
        await standby.put(keys.patroni_member("own"), {"state": state})
        found = observe_standby("own", await standby.store.prefix(keys.PATRONI), [startup])
        assert found.workers == workers


def test_what_was_set_aside_last_comes_back_and_never_over_other_data(tmp_path: Path) -> None:
    """Older data stay, whichever they are."""
    layout = Layout(tmp_path)
    for day, row in enumerate(("older", "old")):
        layout.pgdata.mkdir()
        (layout.pgdata / "row").write_text(row)
        set_data_aside(layout, NOW + dt.timedelta(days=day))
    layout.pgdata.mkdir()
    (layout.pgdata / "row").write_text("new")
    assert not restore_old_data(layout)
    assert (layout.pgdata / "row").read_text() == "new"
    (layout.pgdata / "row").unlink()
    assert restore_old_data(layout)
    assert (layout.pgdata / "row").read_text() == "old"
    assert [(path / "row").read_text() for path in list_old_data(layout)] == ["older"]


def test_a_deletion_that_ends_in_the_middle_leaves_no_data_to_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the data would be taken for all of them."""

    def breaks(_: Path) -> None:
        raise OSError("input/output error")

    layout = Layout(tmp_path)
    layout.pgdata.mkdir()
    (layout.pgdata / "row").write_text("old")
    set_data_aside(layout, NOW)
    monkeypatch.setattr(old_data, "remove_tree", breaks)
    with pytest.raises(OSError, match="input/output"):
        discard_old_data(layout)
    assert list_old_data(layout) == []
    monkeypatch.undo()
    assert not restore_old_data(layout)


async def test_a_recovery_progresses_with_each_segment(standby: StuckStandby) -> None:
    """Whatever its title shows: with update_process_title off it never changes."""
    watch = StandbyWatch(0)
    startup = Process(3, 0, 1, ("postgres: cluster: startup ",))
    await standby.tell_leader("other")
    await standby.put(keys.patroni_member("other"), PRIMARY)
    await standby.put(keys.patroni_member("own"), {"state": "starting"})

    async def quiet(segment: int, now: float) -> float:
        opened = ["/dev/null", f"/n/pgdata/pg_wal/{segment:024X}"]
        found = await standby.store.prefix(keys.PATRONI)
        return watch.quiet_seconds(observe_standby("own", found, [startup], lambda _: opened), now)

    for now in range(0, 3 * int(WORKING_SECONDS), 100):
        assert await quiet(now, now) == 0
    assert await quiet(now, now + WORKING_SECONDS + 30) > 0


def test_the_open_files_of_a_process_are_read(tmp_path: Path) -> None:
    """The segment that a startup process replays; none of a process that has exited."""
    segment = tmp_path / "pg_wal" / f"{1:024X}"
    segment.parent.mkdir()
    with segment.open("wb"):
        assert str(segment) in open_files(os.getpid())
    assert open_files(1 << 30) == []


async def test_workers_and_places_are_told_from_processes() -> None:
    """A recovery has its segment open; a server's title is no tool's command line."""
    processes = [
        Process(1, 0, 1, ("/usr/lib/pg_rewind", "-D", "x")),
        Process(2, 0, 1, ("/usr/lib/postgres", "--single")),
        Process(3, 0, 1, ("postgres: cluster: startup recovering 000000010000000000000002",)),
        Process(4, 0, 1, ("postgres: cluster: walreceiver streaming 0/3",)),
        Process(5, 0, 1, ("/usr/lib/postgres", "-D", "x")),
        Process(6, 0, 1, ("/usr/bin/etcd",)),
    ]
    segment = "/n/pgdata/pg_wal/000000010000000000000002"
    found = observe_standby("own", [], processes, lambda _: [segment, "/n/pgdata/base/1/2"])
    assert found.workers == {1, 2, 3}
    assert found.places == {segment, processes[2].argv[0]}


def test_setting_aside_survives_a_crash_between_any_two_lines(tmp_path: Path) -> None:
    """Whatever was done so far, the old data are complete under one of two names."""
    layout = Layout(tmp_path)
    layout.pgdata.mkdir()
    (layout.pgdata / "row").write_text("old")
    kept = set_data_aside(layout, NOW)
    assert list_old_data(layout) == [kept]
    layout.pgdata.mkdir()
    assert restore_old_data(layout)
    assert (layout.pgdata / "row").read_text() == "old"
    assert not restore_old_data(layout)
    set_data_aside(layout, NOW)
    # A partial deletion: what is left is never used as data again.
    kept.rename(tmp_path / kept.name.replace("aside", "discarded"))
    assert not restore_old_data(layout)
    remove_discarded(layout)
    discard_old_data(layout)
    assert [path.name for path in tmp_path.iterdir()] == []


async def test_a_base_backup_that_took_long_is_not_taken_for_a_standby_that_was_quiet_so_long(
    standby: StuckStandby,
) -> None:
    """The old data's history does not apply to the new data, which would be copied again."""
    made = standby.base_backup

    async def slow() -> bool:
        await asyncio.sleep(2 * RETRY_BASE_BACKUP_SECONDS)
        return await made()

    standby.base_backup = slow  # type: ignore[method-assign]
    await standby.begin_stuck()
    await asyncio.sleep(STUCK_SECONDS + 2 * RETRY_BASE_BACKUP_SECONDS + 120)
    assert standby.done.count("halt patroni") == 1
