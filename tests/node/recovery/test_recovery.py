"""A recovery request on a node: carried out before anything runs, and again after a crash."""

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest
from tests.support.node_files import identity

from openvcha.node.identity import load_identity, save_identity
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
    RecoveryOutcome,
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


class SurvivingNode:
    """A node that was one of two, and its store, which answers alone as soon as it is forced."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(directory)
        self.layout.make_directories()
        (self.layout.etcd_data / "member").mkdir(parents=True)
        self.layout.pgdata.mkdir()
        (self.layout.pgdata / "row").write_text("old")
        self.identity = identity(etcd_initial_cluster={"own": OWN, "other": OTHER})
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
        self.poll_seconds = 0.1
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
        await asyncio.sleep(self.poll_seconds)
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

    def __init__(self, survivor: SurvivingNode) -> None:
        self._stage = survivor

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
def survivor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SurvivingNode:
    return SurvivingNode(tmp_path, monkeypatch)


async def test_a_node_is_made_stand_alone_and_asks_no_other_any_more(
    survivor: SurvivingNode,
) -> None:
    """Forced, rewritten, stopped, in this order; then the request is deleted."""
    assert await survivor.ask() is None
    assert survivor.done == [*ASKED, "forced", "rewritten", "stopped"]
    assert load_identity(survivor.layout.root).etcd_initial_cluster == {"own": OWN}
    assert load_request(survivor.layout) is None
    outcome = await outcome_of(survivor.layout, request(), 1)
    assert outcome
    assert outcome.error is None


async def test_after_a_crash_it_is_done_again(survivor: SurvivingNode) -> None:
    """The request is deleted last, so nothing is left half done."""
    survivor.broken = Crash()
    with pytest.raises(Crash):
        await survivor.ask()
    assert load_outcome(survivor.layout) is None
    survivor.broken = None
    assert await survivor.carry_out() is None
    again = [*ASKED, "forced", "rewritten", "stopped"]
    assert survivor.done == [*ASKED, "forced", "stopped", *again]


async def test_who_asks_again_meanwhile_gets_an_answer_too(survivor: SurvivingNode) -> None:
    """The command was interrupted and run again: the second run waits for its own outcome."""
    again = request(number="2")
    survivor.meanwhile = lambda: write_request(survivor.layout, again)
    assert await survivor.ask() is None
    assert await outcome_of(survivor.layout, again, 1)
    assert load_request(survivor.layout) is None


async def test_a_store_that_is_not_alone_is_left_as_it_is(survivor: SurvivingNode) -> None:
    """The records of a running cluster are never rewritten."""
    survivor.names = ["own", "other"]
    assert "2 members" in str(await survivor.ask())
    assert survivor.done == [*ASKED, "forced", "stopped"]
    assert load_identity(survivor.layout.root) == survivor.identity


async def test_a_store_that_does_not_answer_is_told(survivor: SurvivingNode) -> None:
    """After a limit; the store may be separated, so the request stays."""
    survivor.answers = False
    assert "did not respond as a single member" in str(await survivor.ask())
    assert survivor.done == [*ASKED, "forced", "stopped"]
    assert_unfinished(survivor)


async def test_without_a_store_or_data_nothing_is_forced(survivor: SurvivingNode) -> None:
    """An empty store would start a new cluster."""
    (survivor.layout.etcd_data / "member").rmdir()
    assert "there is no store" in str(await survivor.ask())
    (survivor.layout.pgdata / "row").unlink()
    assert "has no data" in str(await survivor.ask(RequestKind.RESTORE))
    assert survivor.done == []


@pytest.mark.parametrize("wish", list(RequestKind))
async def test_data_that_were_set_aside_are_put_back_first(
    survivor: SurvivingNode, wish: RequestKind
) -> None:
    """They may be the last copy, and the unfinished copy is useless."""
    set_data_aside(survivor.layout, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    survivor.layout.incomplete_base_backup.mkdir()
    assert await survivor.ask(wish) is None
    assert (survivor.layout.pgdata / "row").read_text() == "old"
    assert list_old_data(survivor.layout) == []
    assert not survivor.layout.incomplete_base_backup.exists()


async def test_an_outcome_of_another_request_is_not_taken_for_this_one(
    survivor: SurvivingNode,
) -> None:
    """The previous one's file may still exist."""
    await survivor.ask()
    assert await outcome_of(survivor.layout, request(number="2"), 1) is None


async def test_who_has_come_back_meanwhile_forbids_it(survivor: SurvivingNode) -> None:
    """Requested hours ago, done at the next start: nothing of the node is changed."""
    set_data_aside(survivor.layout, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    survivor.forbids = "vcha-2 answers"
    assert await survivor.ask() == "vcha-2 answers"
    assert survivor.done == ASKED
    assert load_identity(survivor.layout.root) == survivor.identity
    assert list_old_data(survivor.layout)
    assert load_request(survivor.layout) is None


@pytest.mark.parametrize("listed", [{OWN: "own", OTHER: "other"}, {OWN: "own", OTHER: ""}])
async def test_what_has_begun_is_not_forced_beside_others(
    survivor: SurvivingNode, listed: Listed
) -> None:
    """The mark comes before forcing: power may fail in between, and the others may serve again."""
    write_request(survivor.layout, request(begun=True))
    survivor.listed, survivor.forbids = listed, "vcha-2 answers"
    assert await survivor.carry_out() == "vcha-2 answers"
    assert survivor.done == ASKED
    assert load_identity(survivor.layout.root) == survivor.identity
    assert load_request(survivor.layout) is None


def assert_unfinished(survivor: SurvivingNode) -> None:
    """Check that the request stays, and that the outcome keeps the node's parts from starting."""
    assert load_request(survivor.layout) == request(begun=True)
    outcome = load_outcome(survivor.layout)
    assert outcome
    assert outcome.unfinished
    assert "never start the others" in str(outcome.error)


async def test_a_store_that_may_be_cut_off_stays_down(survivor: SurvivingNode) -> None:
    """It has begun and does not name its members: it is neither forced nor started."""
    write_request(survivor.layout, request(begun=True))
    survivor.listed, survivor.forbids = None, "vcha-2 answers"
    assert "vcha-2 answers; " in str(await survivor.carry_out())
    assert survivor.done == ASKED
    assert_unfinished(survivor)


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
    survivor: SurvivingNode, broken: Exception
) -> None:
    """Regression: the request was deleted, and the node started beside the others."""
    survivor.broken = broken
    assert str(broken) in str(await survivor.ask())
    assert survivor.done == [*ASKED, "forced", "stopped"]
    assert_unfinished(survivor)
    survivor.broken, survivor.listed, survivor.forbids = None, {OWN: "own"}, "vcha-2 answers"
    assert await survivor.carry_out() is None
    assert load_request(survivor.layout) is None
    assert load_identity(survivor.layout.root).etcd_initial_cluster == {"own": OWN}


async def test_a_store_that_elects_meanwhile_is_asked_again(survivor: SurvivingNode) -> None:
    """One answer that is missing does not make it fail."""
    survivor.broken, survivor.breaks = OutcomeUnknown("sent"), 3
    assert await survivor.ask() is None
    assert survivor.done == [*ASKED, "forced", "rewritten", "stopped"]


async def test_data_that_cannot_be_restored_after_the_separation_keep_it_down(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails then: the parts must not start with a separated store."""
    write_request(survivor.layout, request(begun=True))
    survivor.listed = {OWN: "own"}
    (survivor.layout.pgdata / "row").unlink()
    assert "has no data" in str(await survivor.carry_out())
    assert_unfinished(survivor)
    monkeypatch.setattr(recovery, "write_private", _fails)
    assert "has no data" in str(await survivor.carry_out())
    assert load_request(survivor.layout) == request(begun=True)


async def test_an_outcome_that_cannot_be_written_is_written_later(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: the request stays, and its repetition ends with the same outcome."""
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "write_private", _fails)
        assert "the outcome cannot be recorded" in str(await survivor.ask())
    assert load_request(survivor.layout) == request(begun=True)
    survivor.listed = {OWN: "own"}
    assert await survivor.carry_out() is None
    assert load_request(survivor.layout) is None
    assert load_outcome(survivor.layout) == RecoveryOutcome(id=request().id)


async def test_a_refusal_that_cannot_be_written_lets_the_node_start(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was changed; a request that stayed would stop the node's parts again and again."""
    survivor.forbids = "vcha-2 answers"
    monkeypatch.setattr(recovery, "write_private", _fails)
    assert "vcha-2 answers" in str(await survivor.ask())
    assert load_request(survivor.layout) is None


async def test_a_request_that_cannot_be_deleted_keeps_the_node_down(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would stop the node's parts as soon as they run."""
    survivor.forbids = "vcha-2 answers"
    monkeypatch.setattr(recovery, "finish", _fails)
    assert "the outcome cannot be recorded" in str(await survivor.ask())
    outcome = load_outcome(survivor.layout)
    assert outcome
    assert outcome.unfinished


def _fails(*_: object) -> None:
    raise OSError(28, "No space left")


async def test_once_cut_off_it_is_carried_through_whoever_answers(survivor: SurvivingNode) -> None:
    """Stopping there would leave a node that can never serve."""
    survivor.broken = Crash()
    with pytest.raises(Crash):
        await survivor.ask()
    survivor.broken, survivor.forbids, survivor.listed = None, "vcha-2 answers", {OWN: "own"}
    assert await survivor.carry_out() is None
    assert survivor.done[-1] == "stopped"
    assert load_identity(survivor.layout.root).etcd_initial_cluster == {"own": OWN}


async def test_a_store_of_one_without_a_mark_is_judged_like_any(survivor: SurvivingNode) -> None:
    """A node restored to a copy from before the others joined does not know them either."""
    survivor.forbids, survivor.listed = "vcha-2 answers", {OWN: "own"}
    assert await survivor.ask() == "vcha-2 answers"
    assert survivor.done == ASKED


async def test_asked_again_while_it_begins_the_newer_request_is_answered(
    survivor: SurvivingNode,
) -> None:
    """The mark of the older one does not replace it."""
    again = request(number="2")
    write_request(survivor.layout, request())
    survivor.in_survey = lambda: write_request(survivor.layout, again)
    assert await survivor.carry_out() is None
    assert await outcome_of(survivor.layout, again, 1)


async def test_a_witness_is_never_made_stand_alone(survivor: SurvivingNode) -> None:
    """Whoever wrote the request."""
    survivor.identity = msgspec.structs.replace(survivor.identity, kind="witness")
    assert "is a witness" in str(await survivor.ask())
    assert survivor.done == []


async def test_a_store_that_is_full_is_given_room_before_it_is_rewritten(
    survivor: SurvivingNode,
) -> None:
    """Otherwise nothing could be written to it, and the node could not be recovered."""
    survivor.full = True
    assert await survivor.ask() is None
    assert survivor.done == [*ASKED, "forced", "room", "rewritten", "stopped"]


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
    survivor: SurvivingNode, asked: dt.datetime | None, boot: str, reason: str, begun: bool
) -> None:
    """Since then the others may have served for days; after a power failure they start later."""
    stamp = asked.isoformat() if asked else ""
    old = msgspec.structs.replace(request(begun=begun), asked=stamp, boot=boot)
    write_request(survivor.layout, old)
    assert reason in str(await survivor.carry_out())
    assert "forced" not in survivor.done
    assert load_request(survivor.layout) is None


async def test_what_is_cut_off_is_carried_through_however_old_the_request_is(
    survivor: SurvivingNode,
) -> None:
    """There is no way back, so the power may have been off for days."""
    write_request(survivor.layout, request(begun=True))
    survivor.now, survivor.boot, survivor.listed = (
        NOON + dt.timedelta(days=9),
        "another",
        {OWN: "own"},
    )
    assert await survivor.carry_out() is None
    assert survivor.asked == 1


async def test_all_others_must_stay_silent(survivor: SurvivingNode) -> None:
    """Whoever boots a little later than this node forbids it; meanwhile it says what it awaits."""
    start = asyncio.get_running_loop().time()
    assert await survivor.ask() is None
    assert asyncio.get_running_loop().time() - start >= SILENCE_SECONDS
    assert survivor.asked >= MIN_PROBES
    assert set(survivor.told) == {WAITING}


@pytest.mark.parametrize("look", [2, MIN_PROBES, 20])
async def test_who_boots_a_little_later_forbids_it(survivor: SurvivingNode, look: int) -> None:
    """After a power failure of the whole site, say."""

    def boots() -> None:
        if survivor.asked == look:
            survivor.forbids = "vcha-2 answers"

    survivor.in_survey = boots
    assert await survivor.ask() == "vcha-2 answers"
    assert survivor.asked == look
    assert survivor.done == ASKED


async def test_looks_with_gaps_are_no_silence(survivor: SurvivingNode) -> None:
    """A machine that is too busy to look says so, and changes nothing."""
    survivor.poll_seconds = 11.0
    start = asyncio.get_running_loop().time()
    assert "may be busy: try again" in str(await survivor.ask())
    assert asyncio.get_running_loop().time() - start == pytest.approx(ALONE_SECONDS, abs=1)
    assert survivor.done == ASKED


async def test_a_node_that_is_stopped_while_it_waits_changes_nothing(
    survivor: SurvivingNode,
) -> None:
    """Regression: SIGTERM was noticed only after the store had been separated."""
    survivor.in_survey = lambda: survivor.stopping.set() if survivor.asked == 3 else None
    start = asyncio.get_running_loop().time()
    assert await survivor.ask() == STOPPED
    assert asyncio.get_running_loop().time() - start < SILENCE_SECONDS / 2
    assert survivor.done == ASKED
    assert load_request(survivor.layout) == request()


async def test_a_node_that_is_stopped_at_the_last_look_changes_nothing(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right before it would begin."""
    monkeypatch.setattr(Recovery, "_restore", lambda _: survivor.stopping.set())
    assert await survivor.ask() == STOPPED
    assert survivor.done == ASKED
    assert load_request(survivor.layout) == request()


async def test_a_node_that_is_stopped_before_its_store_responds_does_not_wait(
    survivor: SurvivingNode,
) -> None:
    """What has begun waits for its own store for up to a minute."""
    write_request(survivor.layout, request(begun=True))
    survivor.answers = False
    asyncio.get_running_loop().call_later(1, survivor.stopping.set)
    start = asyncio.get_running_loop().time()
    assert await survivor.carry_out() == STOPPED
    assert asyncio.get_running_loop().time() - start < 2
    assert load_request(survivor.layout) == request(begun=True)


async def test_a_request_is_withdrawn_while_it_waits(survivor: SurvivingNode) -> None:
    """By another command."""

    def withdrawn() -> None:
        if survivor.asked == 3:
            assert withdraw(survivor.layout) is Withdrawal.WITHDRAWN

    survivor.in_survey = withdrawn
    assert await survivor.ask() == WITHDRAWN
    assert survivor.asked == 3
    assert survivor.done == ASKED


async def test_a_request_that_is_withdrawn_at_the_last_moment_is_not_begun(
    survivor: SurvivingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either it is withdrawn or it has begun."""
    monkeypatch.setattr(recovery, "forget_required_votes", withdraw)
    assert await survivor.ask() == WITHDRAWN
    assert survivor.done == ASKED


async def test_what_has_begun_cannot_be_withdrawn(survivor: SurvivingNode) -> None:
    """The store may be separated: without the request the node would start with it."""
    write_request(survivor.layout, request(begun=True))
    assert withdraw(survivor.layout) is Withdrawal.BEGUN
    assert load_request(survivor.layout) == request(begun=True)


def test_only_a_request_to_stand_alone_is_withdrawn(survivor: SurvivingNode) -> None:
    assert withdraw(survivor.layout) is Withdrawal.NOTHING
    write_request(survivor.layout, request(RequestKind.RESTORE))
    assert withdraw(survivor.layout) is Withdrawal.NOTHING
    assert load_request(survivor.layout)


@pytest.mark.parametrize("wish", list(RequestKind))
def test_what_has_begun_stays_begun_when_it_is_asked_for_again(
    survivor: SurvivingNode, wish: RequestKind
) -> None:
    """Otherwise an answer of another node would let this one start with a separated store."""
    write_request(survivor.layout, request(begun=True))
    submit(survivor.layout, request(wish, number="2"))
    assert load_request(survivor.layout) == request(number="2", begun=True)


def test_a_request_replaces_one_that_is_unreadable(survivor: SurvivingNode) -> None:
    (survivor.layout.root / "recovery.json").write_text("{")
    submit(survivor.layout, request())
    assert load_request(survivor.layout) == request()
