"""An active that would acknowledge writes alone is stopped soon after it has lost quorum."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.connectivity import ObservedCluster

from openvcha.node.background import connectivity, isolation
from openvcha.node.background.context import RETRY_SECONDS
from openvcha.node.background.isolation import ISOLATED_SECONDS
from openvcha.node.background.registry import ALL_JOBS, run_jobs
from openvcha.node.layout import Layout

pytestmark = pytest.mark.looptime
LOG: Any = SimpleNamespace(warning=lambda *_, **__: None)
JOB = {"view": ALL_JOBS["view"]}
SOON = ISOLATED_SECONDS + connectivity.POLL_SECONDS + connectivity.SILENT_SECONDS
ALONE = "listen_addresses = '127.1.1.0'\n#synchronous_standby_names = '\"second\"'\n"
WITH_STANDBY = "listen_addresses = '127.1.1.0'\nsynchronous_standby_names = '\"second\"'\n"


class Active(ObservedCluster):
    """An active whose passive is out of sync; ``ended`` are the times at which it was stopped."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        super().__init__(patch, directory=directory)
        self.pgdata = self.view.layout.pgdata
        self.pgdata.mkdir()
        self.ended: list[float] = []
        self.says(ALONE)
        patch.setattr(isolation, "kill_tree", lambda *_, **__: self.ended.append(self.now()))
        self.loop = asyncio.get_running_loop()
        self.job: asyncio.Task[None] | None = None

    def says(self, settings: str) -> None:
        """Write the settings of Patroni."""
        (self.pgdata / "postgresql.conf").write_text(settings)

    def now(self) -> float:
        return self.loop.time()

    async def lives(self, seconds: float) -> None:
        """Run the job for this long; it ends with the test's loop."""
        if self.job is None:
            self.job = asyncio.create_task(run_jobs(self.view, JOB))
        await asyncio.sleep(seconds)


Making = Callable[[], Awaitable[Active]]


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Making:
    """Create it within the test, where the time is simulated."""

    async def make() -> Active:
        active = Active(monkeypatch, tmp_path)
        await active.lives(3.0)
        return active

    return make


async def test_it_ends_once_within_seconds_and_says_so_afterwards(making: Making) -> None:
    """ISOLATED is reported when nothing is acknowledged any more; the next time starts afresh."""
    active = await making()
    for times in (1, 2):
        active.reachable, cut = False, active.now()
        await active.lives(60.0)
        assert len(active.ended) == times
        assert ISOLATED_SECONDS - connectivity.POLL_SECONDS <= active.ended[-1] - cut <= SOON
        active.reachable = True
        await active.lives(3.0)
    isolated = [seen for seen in active.shown if seen.contact == "ISOLATED"]
    assert isolated[0].writable is False


@pytest.mark.parametrize("seconds", [1.0, ISOLATED_SECONDS - connectivity.POLL_SECONDS])
async def test_an_election_of_the_store_does_not_end_it(making: Making, seconds: float) -> None:
    """However many elections there are."""
    active = await making()
    for _ in range(5):
        active.reachable = False
        await active.lives(seconds)
        active.reachable = True
        await active.lives(2.0)
    assert active.ended == []


def _paused(active: Active) -> None:
    active.paused = True


def _single(active: Active) -> None:
    active.voters = 1


def _without_one_vote(active: Active) -> None:
    active.voters = 2


def _with_standby(active: Active) -> None:
    active.says(WITH_STANDBY)


def _demoted(active: Active) -> None:
    (active.pgdata / "standby.signal").touch()


def _unsure(active: Active) -> None:
    active.silent.add("own")


@pytest.mark.parametrize(
    "spare",
    [_paused, _single, _without_one_vote, _with_standby, _demoted, _unsure],
)
async def test_it_is_left_alone_where_it_may_go_on_or_patroni_knows_better(
    making: Making, spare: Any
) -> None:
    """A mode that allows it, an unfinished cluster, commits that wait, or one silent member."""
    active = await making()
    spare(active)
    await active.lives(3.0)
    active.reachable = False
    await active.lives(60.0)
    assert active.ended == []


async def test_data_that_are_set_aside_acknowledge_nothing(making: Making) -> None:
    """There is nothing to stop; while a PostgreSQL is registered its settings are queried."""
    active = await making()
    (active.pgdata / "postgresql.conf").unlink()
    watch = isolation.IsolationGuard(Layout(active.pgdata.parent / "gone"), LOG)
    standing = isolation.QuorumState(voters=3, paused=False, lacks_quorum=True, silent_seconds=60.0)
    assert not await watch.enforce(standing)
    there = isolation.IsolationGuard(_with_data(active.pgdata), LOG)
    assert not await there.enforce(standing)
    (active.pgdata / "postmaster.pid").write_text("1\n")
    assert not await there.enforce(standing)
    assert "postgresql.conf" in str(there.failure)
    assert active.ended == []


def _with_data(pgdata: Path) -> Any:
    return SimpleNamespace(root=pgdata.parent, pgdata=pgdata)


async def test_a_patroni_that_hangs_has_not_changed_its_mind(making: Making) -> None:
    """Under a pause it goes on, otherwise it is stopped: by the last state in the store."""
    active = await making()
    active.patroni, active.reachable = b"", False
    await active.lives(SOON)
    assert len(active.ended) == 1


@pytest.mark.parametrize("paused", [False, True])
async def test_a_mode_that_a_hanging_patroni_did_not_notice_counts(
    making: Making, paused: bool
) -> None:
    """The others follow the store; what Patroni said in another mode is of no use."""
    active = await making()
    words = {True: b"true", False: b"false"}
    active.paused = not paused
    active.patroni = b'{"role": "primary", "state": "running", "pause": %s}' % words[not paused]
    await active.lives(3.0)
    active.patroni, active.paused = b"", paused
    await active.lives(3.0)
    active.reachable = False
    await active.lives(SOON)
    assert len(active.ended) == (0 if paused else 1)


async def test_only_the_health_itself_is_heeded(making: Making) -> None:
    """The other text on the member's page may contain the other word."""
    active = await making()
    active.remark, active.reachable = b'","was":"true', False
    await active.lives(SOON)
    assert len(active.ended) == 1


async def test_one_member_that_hangs_is_no_cut(making: Making) -> None:
    """It may make the store seem silent; the own member knows of the quorum."""
    active = await making()
    active.hangs = True
    await active.lives(60.0)
    assert active.ended == []
    assert {seen.contact for seen in active.shown} == {"CONNECTED"}


async def test_a_job_that_is_restarted_during_a_cut_still_stops_it(making: Making) -> None:
    """The mode and the voters are in the store, which cannot be read until the cut ends."""
    active = await making()
    active.reachable, cut = False, active.now()
    await active.lives(ISOLATED_SECONDS / 2)
    active.fault = ValueError("not foreseen")
    await active.lives(connectivity.POLL_SECONDS)
    assert active.notes["job view"]
    await active.lives(60.0)
    assert len(active.ended) == 1
    assert active.ended[0] - cut <= SOON + RETRY_SECONDS
    assert {seen.contact for seen in active.shown} == {"CONNECTED", "ISOLATED"}
    assert {seen.role for seen in active.shown} == {"ACTIVE"}


async def test_silence_counts_from_when_a_restarted_job_first_hears_it(making: Making) -> None:
    """Between its end and that the store may have responded: an election is no isolation."""
    active = await making()
    for _ in range(3):
        active.fault = ValueError("not foreseen")
        active.reachable = False
        await active.lives(ISOLATED_SECONDS - connectivity.POLL_SECONDS)
        active.reachable = True
        await active.lives(RETRY_SECONDS * 16)
    assert active.ended == []


async def test_settings_that_cannot_be_read_are_read_again_at_the_next_look(
    making: Making,
) -> None:
    """That is told, and neither restarts the job nor delays the stop once they can be read."""
    active = await making()
    settings = active.pgdata / "postgresql.conf"
    settings.unlink()
    settings.mkdir()
    active.reachable = False
    await active.lives(20.0)
    assert "postgresql.conf" in str(active.notes["isolation"])
    assert active.ended == []
    settings.rmdir()
    active.says(ALONE)
    await active.lives(2 * connectivity.SILENT_SECONDS)
    assert len(active.ended) == 1
    assert active.notes["isolation"] is None
    assert "job view" not in active.notes


async def test_a_broken_copy_of_what_is_known_does_not_disturb_the_guard(making: Making) -> None:
    """The copy has failures of its own, and is retried by itself."""
    active = await making()
    active.record_fault = ValueError("not foreseen")
    active.sync = b'{"leader": "own", "sync_standby": "second"}'
    await active.lives(3.0)
    assert "not foreseen" in str(active.notes["job kept cluster"])
    active.reachable = False
    await active.lives(SOON)
    assert len(active.ended) == 1
    assert "job view" not in active.notes
