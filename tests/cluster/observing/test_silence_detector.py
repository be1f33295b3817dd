"""One failed look is no verdict, repeated ones are; in between the state is unknown."""

from dataclasses import replace

import pytest
from tests.support.simulated.observations import STREAMING, ObservationBuilder

from openvcha.api.structures import ClusterState
from openvcha.cluster import preconditions
from openvcha.cluster.findings.health import assess
from openvcha.cluster.observing.observation import NodeObservation
from openvcha.cluster.observing.silence_detector import (
    MAX_GAP_SECONDS,
    MIN_SILENCE_SECONDS,
    ProbeHistory,
    SilenceDetector,
    Verdict,
    verdict,
)

PASSIVE, WITNESS = "b-2", "w-3"


def judged(*looks: tuple[float, bool]) -> Verdict:
    found = ProbeHistory()
    for at, answered in looks:
        found = found.with_probe(answered=answered, at=at)
    return verdict(found)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([], Verdict.UNKNOWN),
        ([(0, True)], Verdict.ANSWERS),
        ([(0, False)], Verdict.UNKNOWN),
        ([(0, True), (1, False)], Verdict.UNKNOWN),
        ([(0, True), (1, False), (2, False), (3, False)], Verdict.UNKNOWN),
        ([(0, True), (1, False), (3, False), (4, False)], Verdict.SILENT),
        ([(0, False), (1, False), (3, False)], Verdict.SILENT),
        ([(0, False), (60, False)], Verdict.UNKNOWN),
        ([(1, False), (3600, False), (3600.1, False)], Verdict.UNKNOWN),
        ([(0, False), (60, False), (62, False), (63, False)], Verdict.SILENT),
        ([(0, False), (1, False), (2, True), (3, False), (4, False)], Verdict.UNKNOWN),
        ([(0, False), (2, False), (4, False), (5, True)], Verdict.ANSWERS),
    ],
)
def test_silence_has_to_hold(looks: list[tuple[float, bool]], expected: Verdict) -> None:
    """Several looks, some seconds, no answer in between."""
    assert judged(*looks) is expected


class Watched:
    """A cluster that is observed every second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.held = SilenceDetector(lambda: self.now)
        self.world = ObservationBuilder()

    def look(self, *, off: bool = False) -> NodeObservation:
        """Observe the passive once, and judge everything by what is known then."""
        raw = next(n for n in self.raw if n.config.member == PASSIVE)
        found = self.held.debounce(raw, off=off)
        nodes = tuple(found if n.config.member == PASSIVE else n for n in self.raw)
        seen = replace(self.world.seen, nodes=nodes)
        unready = self.held.unready_seconds(PASSIVE, in_sync=seen.passive_in_sync)
        self.world.set(nodes=nodes, unready_seconds=unready)
        return found

    def refusal(self) -> str | None:
        found = preconditions.why_not(preconditions.REDEPLOY_PASSIVE, self.world.seen)
        return found.reason.id.rpartition("vcha.")[2] if found else None

    def answer(self, **changes: object) -> None:
        self.world.node(PASSIVE, **changes)
        self.raw = self.world.seen.nodes

    @property
    def state(self) -> ClusterState:
        return assess(self.world.seen).state


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.answer()
    watched.look()
    return watched


@pytest.mark.parametrize("missed", [{"patroni": None}, {"etcd_answers": False}])
def test_one_missed_probe_of_a_healthy_passive_changes_nothing(
    watched: Watched, missed: dict[str, object]
) -> None:
    """It may not be replaced, for a reason of its own, and is not reported as lost."""
    watched.now += 1
    watched.answer(**missed)
    assert watched.look().unsure
    assert watched.refusal() == "node.unsure"
    assert watched.state is ClusterState.HEALTHY
    watched.now += 1
    watched.answer(patroni=STREAMING, etcd_answers=True)
    assert not watched.look().unsure
    assert watched.refusal() == "passive.healthy"


def test_what_stays_silent_is_lost(watched: Watched) -> None:
    """Then it is reported, and may be replaced."""
    watched.answer(patroni=None, etcd_answers=False)
    for _ in range(4):
        watched.now += MIN_SILENCE_SECONDS / 3
        watched.look()
    assert watched.state is ClusterState.DEGRADED
    assert watched.refusal() is None


def test_what_is_off_for_sure_is_lost_at_once(watched: Watched) -> None:
    """A real loss is repaired without waiting; and it stays lost while it restarts."""
    watched.now += 1
    watched.answer(patroni=None, etcd_answers=False)
    watched.look(off=True)
    assert watched.state is ClusterState.DEGRADED
    assert watched.refusal() is None
    watched.now += 1
    assert not watched.look().etcd_answers


def test_what_was_off_long_ago_is_asked_for_again(watched: Watched) -> None:
    """The last look was an hour ago: the node may be on again, and merely busy."""
    watched.answer(patroni=None, etcd_answers=False)
    found = watched.look(off=True)
    assert not watched.held.is_doubtful(found)
    watched.now += 3600
    assert watched.held.is_doubtful(found)
    assert watched.look().unsure


def test_who_was_never_heard_is_not_called_well() -> None:
    """A new observer has no history: neither HEALTHY nor to be replaced."""
    watched = Watched()
    watched.answer(patroni=None, etcd_answers=False)
    assert watched.look().unsure
    assert watched.state is ClusterState.DEGRADED
    assert watched.refusal() == "node.unsure"


def test_a_passive_that_answers_has_time_to_get_in_sync(watched: Watched) -> None:
    """It is starting, or follows a new active: replacing it would throw a good copy away."""
    watched.answer(patroni=replace(STREAMING, state="starting"))
    watched.look()
    assert watched.refusal() == "passive.unready"
    stays_unready(watched, preconditions.UNREADY_SECONDS)
    assert watched.refusal() is None


@pytest.mark.parametrize("pause", [MAX_GAP_SECONDS + 1, 3600.0])
def test_a_pause_of_observation_does_not_count_as_out_of_sync(
    watched: Watched, pause: float
) -> None:
    """Regression: two looks an hour apart, both at a wrong moment, replaced a healthy passive."""
    watched.answer(patroni=replace(STREAMING, state="starting"))
    watched.look()
    stays_unready(watched, preconditions.UNREADY_SECONDS - 1)
    watched.now += pause
    watched.look()
    assert watched.world.seen.unready_seconds == 0.0
    assert watched.refusal() == "passive.unready"
    stays_unready(watched, preconditions.UNREADY_SECONDS)
    assert watched.refusal() is None


def stays_unready(watched: Watched, seconds: float) -> None:
    """Look every second for this long."""
    for _ in range(int(seconds)):
        watched.now += 1
        watched.look()


def test_a_passive_that_was_in_sync_meanwhile_has_that_time_again(watched: Watched) -> None:
    """Unready without a break means without a break."""
    for _ in range(3):
        watched.answer(patroni=replace(STREAMING, state="starting"))
        watched.look()
        stays_unready(watched, preconditions.UNREADY_SECONDS / 2)
        watched.answer(patroni=STREAMING)
        watched.look()
    watched.answer(patroni=replace(STREAMING, state="starting"))
    watched.look()
    assert watched.refusal() == "passive.unready"


def test_a_former_active_is_not_taken_for_a_passive_that_was_unready_before() -> None:
    """The time counts for one node only."""
    held = SilenceDetector(lambda: now)
    now = 0.0
    assert held.unready_seconds("b-2", in_sync=False) == 0.0
    now = 60.0
    assert held.unready_seconds("a-1", in_sync=False) == 0.0


def test_a_missed_look_at_the_witness_is_no_verdict_either(world: ObservationBuilder) -> None:
    """It is not replaced for that, nor is an allowed failover refused."""
    held = SilenceDetector(lambda: 0.0)
    for answers in (True, False):
        raw = next(n for n in world.seen.nodes if n.config.member == WITNESS)
        found = held.debounce(replace(raw, etcd_answers=answers), off=False)
    world.node(WITNESS, etcd_answers=found.etcd_answers, unsure=found.unsure)
    refusal = preconditions.why_not(preconditions.REDEPLOY_WITNESS, world.seen)
    assert refusal is not None
    assert refusal.reason.id.endswith("node.unsure")
    assert refusal.momentary
    assert preconditions.why_not(preconditions.FAILOVER, world.seen) is None


def test_a_leader_that_is_no_node_of_the_cluster_is_named(world: ObservationBuilder) -> None:
    """Its own message says what to do: "no node is active" would mislead."""
    world.set(leader="frozen-9")
    judged = assess(world.seen)
    assert judged.state is ClusterState.DEGRADED
    assert "frozen-9" in judged.warnings[0].error.default_message
    assert "frozen-9" in str(judged.warnings[0].recommendation)


@pytest.mark.parametrize("missed", [{"patroni": None}, {"etcd_answers": False}])
def test_who_has_just_begun_to_look_does_not_know_what_missed_its_first_look(
    missed: dict[str, object],
) -> None:
    """It would show the node as down; after one answer, or lasting silence, it knows."""
    fresh = Watched()
    fresh.answer(**missed)
    fresh.look()
    assert not fresh.world.seen.complete
    fresh.answer(patroni=STREAMING, etcd_answers=True)
    fresh.look()
    assert fresh.world.seen.complete
    fresh.answer(**missed)
    assert fresh.look().unsure
    assert fresh.world.seen.complete, "it is as it has said last"


def test_who_looks_at_what_is_surely_silent_knows_that(watched: Watched) -> None:
    """A lost node makes no caller wait for long."""
    fresh = Watched()
    fresh.answer(patroni=None, etcd_answers=False)
    found = []
    for _ in range(4):
        fresh.look()
        found.append(fresh.world.seen.complete)
        fresh.now += MIN_SILENCE_SECONDS / 3
    assert found == [False, False, False, True]
    watched.answer(patroni=None, etcd_answers=False)
    watched.look(off=True)
    assert watched.world.seen.complete
