"""A recovery request on a node: carried out before anything runs, and again after a crash."""

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest

from openvcha.node.identity import Identity, load_identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data.old_data import list_old_data, set_data_aside
from openvcha.node.recovery import recovery
from openvcha.node.recovery.recovery import (
    ALONE_SECONDS,
    FORCE_FLAG,
    STOPPED,
    WAITING,
    WITHDRAWN,
    Recovery,
    load_outcome,
    outcome_of,
)
from openvcha.node.recovery.request import (
    VALID,
    RecoveryRequest,
    RequestKind,
    Withdrawal,
    load_request,
    submit,
    withdraw,
    write_request,
)
from openvcha.node.recovery.survey import Listed, Survey
from openvcha.store.errors import OutcomeUnknown, PermissionDenied, StoreFull, StoreUnavailable
from openvcha.system.silence import MIN_PROBES, SILENCE_SECONDS

pytestmark = pytest.mark.looptime

ASKED = ["begun", "stopped"]
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
BOOT = "this-boot"
OWN, OTHER = "https://127.1.1.1:2380", "https://127.1.1.2:2380"


class Crash(BaseException):
    """The supervisor has died."""


class Stage:
    """A node that was one of two, and its store, which answers alone as soon as it is forced."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(directory)
        self.layout.make_directories()
        (self.layout.etcd_data / "member").mkdir(parents=True)
        self.layout.pgdata.mkdir()
        (self.layout.pgdata / "row").write_text("old")
        self.identity = Identity(
            cluster_id="c",
            cluster_name="c",
            member="own",
            kind="data",
            vm="vm-1",
            name="own",
            ha_address="127.1.1.1",
            etcd_initial_cluster={"own": OWN, "other": OTHER},
        )
        save_identity(directory, self.identity)
        self.done: list[str] = []
        self.names = ["own"]
        self.full = False
        self.broken: BaseException | None = None
        self.breaks = 10**9
        self.answers = True
        self.meanwhile: Callable[[], None] = lambda: None
        self.forbids: str | None = None
        self.asked = 0
        self.look_seconds = 0.1
        self.now, self.boot = NOON, BOOT
        self.told: list[str] = []
        self.stopping = asyncio.Event()
        self.in_survey: Callable[[], None] = lambda: None
        self.listed: Listed | None = {OWN: "own", OTHER: "other"}
        patch.setattr(recovery, "is_healthy", self.answer)
        patch.setattr(recovery, "survey", self.survey)
        patch.setattr(recovery, "standalone_refusal", lambda _: self.forbids)
        patch.setattr(recovery, "Etcd", lambda *_, **__: Store(self))
        patch.setattr(recovery, "NodeTls", lambda _: lambda: None)

    async def answer(self, *_: Any) -> bool:
        return self.answers

    async def survey(self, *_: Any, public: bool) -> Survey:
        assert public
        await asyncio.sleep(self.look_seconds)
        self.asked += 1
        self.in_survey()
        return Survey(self.identity, None, self.listed, None, ())

    def etcd_with(self, *flags: str) -> Any:
        return SimpleNamespace(begin=lambda: self.done.append(_named(flags)), stop=self.stop)

    async def stop(self) -> None:
        self.done.append("stopped")

    async def rewrite(self, *_: Any) -> None:
        if self.broken and self.breaks:
            self.breaks -= 1
            raise self.broken
        self.done.append("rewritten")
        self.meanwhile()

    async def carry_out(self) -> str | None:
        """Do as the supervisor does at its start."""
        found = load_request(self.layout)
        assert found
        todo = Recovery(
            self.identity,
            self.layout,
            self.etcd_with,
            self.rewrite,
            tell=self.told.append,
            now=lambda: self.now,
            boot=lambda: self.boot,
            stop=self.stopping,
        )
        return (await todo.carry_out(found)).error

    async def ask(self, wish: RequestKind = RequestKind.STANDALONE) -> str | None:
        write_request(self.layout, request(wish))
        return await self.carry_out()


def request(
    wish: RequestKind = RequestKind.STANDALONE, *, number: str = "1", begun: bool = False
) -> RecoveryRequest:
    return RecoveryRequest(wish=wish, id=number, begun=begun, asked=NOON.isoformat(), boot=BOOT)


def _named(flags: tuple[str, ...]) -> str:
    return "forced" if FORCE_FLAG in flags else "begun"


class Store:
    """The store's client."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def members(self, *, local: bool = False) -> list[Any]:
        assert not local
        return [SimpleNamespace(name=name) for name in self._stage.names]

    async def members_without_space(self) -> frozenset[int]:
        return frozenset({1}) if self._stage.full else frozenset()

    async def reclaim_space(self, _: str) -> None:
        self._stage.done.append("room")
        self._stage.full = False


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


async def test_a_node_is_made_stand_alone_and_asks_no_other_any_more(stage: Stage) -> None:
    """Forced, rewritten, stopped, in this order; then the request is deleted."""
    assert await stage.ask() is None
    assert stage.done == [*ASKED, "forced", "rewritten", "stopped"]
    assert load_identity(stage.layout.root).etcd_initial_cluster == {"own": OWN}
    assert load_request(stage.layout) is None
    outcome = await outcome_of(stage.layout, request(), 1)
    assert outcome
    assert outcome.error is None


async def test_after_a_crash_it_is_done_again(stage: Stage) -> None:
    """The request is deleted last, so nothing is left half done."""
    stage.broken = Crash()
    with pytest.raises(Crash):
        await stage.ask()
    assert load_outcome(stage.layout) is None
    stage.broken = None
    assert await stage.carry_out() is None
    again = [*ASKED, "forced", "rewritten", "stopped"]
    assert stage.done == [*ASKED, "forced", "stopped", *again]


async def test_who_asks_again_meanwhile_gets_an_answer_too(stage: Stage) -> None:
    """The command was interrupted and run again: the second run waits for its own outcome."""
    again = request(number="2")
    stage.meanwhile = lambda: write_request(stage.layout, again)
    assert await stage.ask() is None
    assert await outcome_of(stage.layout, again, 1)
    assert load_request(stage.layout) is None


async def test_a_store_that_is_not_alone_is_left_as_it_is(stage: Stage) -> None:
    """The records of a running cluster are never rewritten."""
    stage.names = ["own", "other"]
    assert "2 members" in str(await stage.ask())
    assert stage.done == [*ASKED, "forced", "stopped"]
    assert load_identity(stage.layout.root) == stage.identity


async def test_a_store_that_does_not_answer_is_told(stage: Stage) -> None:
    """After a limit; the store may be separated, so the request stays."""
    stage.answers = False
    assert "did not respond as a single member" in str(await stage.ask())
    assert stage.done == [*ASKED, "forced", "stopped"]
    assert_unfinished(stage)


async def test_without_a_store_or_data_nothing_is_forced(stage: Stage) -> None:
    """An empty store would start a new cluster."""
    (stage.layout.etcd_data / "member").rmdir()
    assert "there is no store" in str(await stage.ask())
    (stage.layout.pgdata / "row").unlink()
    assert "has no data" in str(await stage.ask(RequestKind.RESTORE))
    assert stage.done == []


@pytest.mark.parametrize("wish", list(RequestKind))
async def test_data_that_were_set_aside_are_put_back_first(stage: Stage, wish: RequestKind) -> None:
    """They may be the last copy, and the unfinished copy is useless."""
    set_data_aside(stage.layout, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    stage.layout.incomplete_base_backup.mkdir()
    assert await stage.ask(wish) is None
    assert (stage.layout.pgdata / "row").read_text() == "old"
    assert list_old_data(stage.layout) == []
    assert not stage.layout.incomplete_base_backup.exists()


async def test_an_outcome_of_another_request_is_not_taken_for_this_one(stage: Stage) -> None:
    """The previous one's file may still exist."""
    await stage.ask()
    assert await outcome_of(stage.layout, request(number="2"), 1) is None


async def test_who_has_come_back_meanwhile_forbids_it(stage: Stage) -> None:
    """Requested hours ago, done at the next start: nothing of the node is changed."""
    set_data_aside(stage.layout, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    stage.forbids = "vcha-2 answers"
    assert await stage.ask() == "vcha-2 answers"
    assert stage.done == ASKED
    assert load_identity(stage.layout.root) == stage.identity
    assert list_old_data(stage.layout)
    assert load_request(stage.layout) is None


@pytest.mark.parametrize("listed", [{OWN: "own", OTHER: "other"}, {OWN: "own", OTHER: ""}])
async def test_what_has_begun_is_not_forced_beside_others(stage: Stage, listed: Listed) -> None:
    """The mark comes before forcing: power may fail in between, and the others may serve again."""
    write_request(stage.layout, request(begun=True))
    stage.listed, stage.forbids = listed, "vcha-2 answers"
    assert await stage.carry_out() == "vcha-2 answers"
    assert stage.done == ASKED
    assert load_identity(stage.layout.root) == stage.identity
    assert load_request(stage.layout) is None


def assert_unfinished(stage: Stage) -> None:
    """Check that the request stays, and that the outcome keeps the node's parts from starting."""
    assert load_request(stage.layout) == request(begun=True)
    outcome = load_outcome(stage.layout)
    assert outcome
    assert outcome.unfinished
    assert "never start the others" in str(outcome.error)


async def test_a_store_that_may_be_cut_off_stays_down(stage: Stage) -> None:
    """It has begun and does not name its members: it is neither forced nor started."""
    write_request(stage.layout, request(begun=True))
    stage.listed, stage.forbids = None, "vcha-2 answers"
    assert "vcha-2 answers; " in str(await stage.carry_out())
    assert stage.done == ASKED
    assert_unfinished(stage)


@pytest.mark.parametrize(
    "broken",
    [
        StoreUnavailable("away"),
        OutcomeUnknown("sent"),
        StoreFull("full"),
        PermissionDenied("no"),
        OSError(28, "No space left"),
        KeyError("password"),
    ],
    ids=lambda broken: type(broken).__name__,
)
async def test_what_fails_after_the_separation_stays_and_is_finished_later(
    stage: Stage, broken: Exception
) -> None:
    """Regression: the request was deleted, and the node started beside the others."""
    stage.broken = broken
    assert str(broken) in str(await stage.ask())
    assert stage.done == [*ASKED, "forced", "stopped"]
    assert_unfinished(stage)
    stage.broken, stage.listed, stage.forbids = None, {OWN: "own"}, "vcha-2 answers"
    assert await stage.carry_out() is None
    assert load_request(stage.layout) is None
    assert load_identity(stage.layout.root).etcd_initial_cluster == {"own": OWN}


async def test_a_store_that_elects_meanwhile_is_asked_again(stage: Stage) -> None:
    """One answer that is missing does not make it fail."""
    stage.broken, stage.breaks = OutcomeUnknown("sent"), 3
    assert await stage.ask() is None
    assert stage.done == [*ASKED, "forced", "rewritten", "stopped"]


async def test_data_that_cannot_be_restored_after_the_separation_keep_it_down(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails then: the parts must not start with a separated store."""
    write_request(stage.layout, request(begun=True))
    stage.listed = {OWN: "own"}
    (stage.layout.pgdata / "row").unlink()
    assert "has no data" in str(await stage.carry_out())
    assert_unfinished(stage)
    monkeypatch.setattr(recovery, "write_private", _fails)
    assert "has no data" in str(await stage.carry_out())
    assert load_request(stage.layout) == request(begun=True)


def _fails(*_: object) -> None:
    raise OSError(28, "No space left")


async def test_once_cut_off_it_is_carried_through_whoever_answers(stage: Stage) -> None:
    """Stopping there would leave a node that can never serve."""
    stage.broken = Crash()
    with pytest.raises(Crash):
        await stage.ask()
    stage.broken, stage.forbids, stage.listed = None, "vcha-2 answers", {OWN: "own"}
    assert await stage.carry_out() is None
    assert stage.done[-1] == "stopped"
    assert load_identity(stage.layout.root).etcd_initial_cluster == {"own": OWN}


async def test_a_store_of_one_without_a_mark_is_judged_like_any(stage: Stage) -> None:
    """A node restored to a copy from before the others joined does not know them either."""
    stage.forbids, stage.listed = "vcha-2 answers", {OWN: "own"}
    assert await stage.ask() == "vcha-2 answers"
    assert stage.done == ASKED


async def test_asked_again_while_it_begins_the_newer_request_is_answered(stage: Stage) -> None:
    """The mark of the older one does not replace it."""
    again = request(number="2")
    write_request(stage.layout, request())
    stage.in_survey = lambda: write_request(stage.layout, again)
    assert await stage.carry_out() is None
    assert await outcome_of(stage.layout, again, 1)


async def test_a_witness_is_never_made_stand_alone(stage: Stage) -> None:
    """Whoever wrote the request."""
    stage.identity = msgspec.structs.replace(stage.identity, kind="witness")
    assert "is a witness" in str(await stage.ask())
    assert stage.done == []


async def test_a_store_that_is_full_is_given_room_before_it_is_rewritten(stage: Stage) -> None:
    """Otherwise nothing could be written to it, and the node could not be recovered."""
    stage.full = True
    assert await stage.ask() is None
    assert stage.done == [*ASKED, "forced", "room", "rewritten", "stopped"]


@pytest.mark.parametrize(
    ("asked", "boot", "reason"),
    [
        (NOON - VALID - dt.timedelta(seconds=1), BOOT, "is valid for 10 min; ask again"),
        (NOON + VALID + dt.timedelta(seconds=1), BOOT, "is valid for 10 min; ask again"),
        (NOON, "an earlier boot", "before this machine was restarted; ask again"),
        (None, BOOT, "the time of the request is unknown"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_an_old_request_is_void(
    stage: Stage, asked: dt.datetime | None, boot: str, reason: str, begun: bool
) -> None:
    """Since then the others may have served for days; after a power failure they start later."""
    stamp = asked.isoformat() if asked else ""
    old = msgspec.structs.replace(request(begun=begun), asked=stamp, boot=boot)
    write_request(stage.layout, old)
    assert reason in str(await stage.carry_out())
    assert "forced" not in stage.done
    assert load_request(stage.layout) is None


async def test_what_is_cut_off_is_carried_through_however_old_the_request_is(stage: Stage) -> None:
    """There is no way back, so the power may have been off for days."""
    write_request(stage.layout, request(begun=True))
    stage.now, stage.boot, stage.listed = NOON + dt.timedelta(days=9), "another", {OWN: "own"}
    assert await stage.carry_out() is None
    assert stage.asked == 1


async def test_all_others_must_stay_silent(stage: Stage) -> None:
    """Whoever boots a little later than this node forbids it; meanwhile it says what it awaits."""
    start = asyncio.get_running_loop().time()
    assert await stage.ask() is None
    assert asyncio.get_running_loop().time() - start >= SILENCE_SECONDS
    assert stage.asked >= MIN_PROBES
    assert set(stage.told) == {WAITING}


@pytest.mark.parametrize("look", [2, MIN_PROBES, 20])
async def test_who_boots_a_little_later_forbids_it(stage: Stage, look: int) -> None:
    """After a power failure of the whole site, say."""

    def boots() -> None:
        if stage.asked == look:
            stage.forbids = "vcha-2 answers"

    stage.in_survey = boots
    assert await stage.ask() == "vcha-2 answers"
    assert stage.asked == look
    assert stage.done == ASKED


async def test_looks_with_gaps_are_no_silence(stage: Stage) -> None:
    """A machine that is too busy to look says so, and changes nothing."""
    stage.look_seconds = 11.0
    start = asyncio.get_running_loop().time()
    assert "may be busy: try again" in str(await stage.ask())
    assert asyncio.get_running_loop().time() - start == pytest.approx(ALONE_SECONDS, abs=1)
    assert stage.done == ASKED


async def test_a_node_that_is_stopped_while_it_waits_changes_nothing(stage: Stage) -> None:
    """Regression: SIGTERM was noticed only after the store had been separated."""
    stage.in_survey = lambda: stage.stopping.set() if stage.asked == 3 else None
    start = asyncio.get_running_loop().time()
    assert await stage.ask() == STOPPED
    assert asyncio.get_running_loop().time() - start < SILENCE_SECONDS / 2
    assert stage.done == ASKED
    assert load_request(stage.layout) == request()


async def test_a_node_that_is_stopped_at_the_last_look_changes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right before it would begin."""
    monkeypatch.setattr(Recovery, "_restore", lambda _: stage.stopping.set())
    assert await stage.ask() == STOPPED
    assert stage.done == ASKED
    assert load_request(stage.layout) == request()


async def test_a_node_that_is_stopped_before_its_store_responds_does_not_wait(stage: Stage) -> None:
    """What has begun waits for its own store for up to a minute."""
    write_request(stage.layout, request(begun=True))
    stage.answers = False
    asyncio.get_running_loop().call_later(1, stage.stopping.set)
    start = asyncio.get_running_loop().time()
    assert await stage.carry_out() == STOPPED
    assert asyncio.get_running_loop().time() - start < 2
    assert load_request(stage.layout) == request(begun=True)


async def test_a_request_is_withdrawn_while_it_waits(stage: Stage) -> None:
    """By another command."""

    def withdrawn() -> None:
        if stage.asked == 3:
            assert withdraw(stage.layout) is Withdrawal.WITHDRAWN

    stage.in_survey = withdrawn
    assert await stage.ask() == WITHDRAWN
    assert stage.asked == 3
    assert stage.done == ASKED


async def test_a_request_that_is_withdrawn_at_the_last_moment_is_not_begun(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either it is withdrawn or it has begun."""
    monkeypatch.setattr(recovery, "forget_required_votes", withdraw)
    assert await stage.ask() == WITHDRAWN
    assert stage.done == ASKED


async def test_what_has_begun_cannot_be_withdrawn(stage: Stage) -> None:
    """The store may be separated: without the request the node would start with it."""
    write_request(stage.layout, request(begun=True))
    assert withdraw(stage.layout) is Withdrawal.BEGUN
    assert load_request(stage.layout) == request(begun=True)


def test_only_a_request_to_stand_alone_is_withdrawn(stage: Stage) -> None:
    assert withdraw(stage.layout) is Withdrawal.NOTHING
    write_request(stage.layout, request(RequestKind.RESTORE))
    assert withdraw(stage.layout) is Withdrawal.NOTHING
    assert load_request(stage.layout)


@pytest.mark.parametrize("wish", list(RequestKind))
def test_what_has_begun_stays_begun_when_it_is_asked_for_again(
    stage: Stage, wish: RequestKind
) -> None:
    """Otherwise an answer of another node would let this one start with a separated store."""
    write_request(stage.layout, request(begun=True))
    submit(stage.layout, request(wish, number="2"))
    assert load_request(stage.layout) == request(number="2", begun=True)


def test_a_request_replaces_one_that_is_unreadable(stage: Stage) -> None:
    (stage.layout.root / "recovery.json").write_text("{")
    submit(stage.layout, request())
    assert load_request(stage.layout) == request()
