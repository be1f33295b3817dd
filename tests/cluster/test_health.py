"""The cluster's state is a pure function of what was seen, and every fault has its reason."""

import pytest
from tests.cluster.conftest import PRIMARY, STREAMING, World

from openvcha.api.structures import ClusterMode, ClusterState
from openvcha.cluster.health import assess
from openvcha.cluster.patroni import PatroniNode, SyncState


def reasons(world: World) -> set[str]:
    found = assess(world.seen)
    assert bool(found.warnings) is (found.state is not ClusterState.HEALTHY)
    return {w.error.id.removeprefix("com.vmware.vcenter.vcha.") for w in found.warnings}


def test_three_connected_nodes_in_sync_are_healthy(world: World) -> None:
    """Nothing is wrong when nothing is wrong."""
    assert reasons(world) == set()


@pytest.mark.parametrize("member", ["b-2", "w-3"])
def test_a_lost_node_is_named_with_what_to_do(world: World, member: str) -> None:
    """A node that does not answer is DEGRADED, with a recommendation."""
    world.lose(member)
    assert "node.lost" in reasons(world)
    assert all(warning.recommendation for warning in assess(world.seen).warnings)


def test_a_node_without_a_vote_is_lost_even_if_it_answers(world: World) -> None:
    """Without its vote a node is no help in a failover."""
    world.node("w-3", voter=False)
    assert "node.lost" in reasons(world)


def test_streaming_is_not_yet_protection(world: World) -> None:
    """Only a passive that /sync names may take over without loss."""
    world.set(sync=SyncState("a-1", frozenset()))
    assert reasons(world) == {"replication.not.in.sync"}


def test_a_sync_key_of_another_leader_protects_nobody(world: World) -> None:
    """/sync speaks only for the leader that wrote it."""
    world.set(sync=SyncState("b-2", frozenset({"b-2"})))
    assert reasons(world) == {"replication.not.in.sync"}


def test_a_standby_that_does_not_stream_is_told_apart(world: World) -> None:
    """Stopped replication is another fault than replication that catches up."""
    world.node("b-2", patroni=PatroniNode("replica", "running", 1, ()))
    assert reasons(world) == {"replication.stopped"}


def test_no_leader_is_a_fault(world: World) -> None:
    """Nobody takes writes: that must be said first."""
    world.set(leader=None)
    assert "no.active" in reasons(world)


def test_an_active_that_takes_no_writes_is_a_fault(world: World) -> None:
    """The leader key alone makes nobody active: PostgreSQL has to take writes."""
    world.node("a-1", patroni=PatroniNode("primary", "starting", 1, ()))
    assert "no.active" in reasons(world)


def test_an_active_without_its_vote_is_a_fault(world: World) -> None:
    """Two votes of three go on, but one more loss would stop everything."""
    world.node("a-1", etcd_answers=False)
    assert reasons(world) == {"active.no.vote"}


def test_disabled_mode_wants_no_replication(world: World) -> None:
    """In DISABLED the standby is down on purpose."""
    world.configure(mode=ClusterMode.DISABLED)
    world.node("b-2", patroni=None)
    world.set(sync=SyncState(None, frozenset()))
    assert reasons(world) == set()


def test_patroni_states_mean_what_patroni_means() -> None:
    """A primary is one that runs; a standby streams or it does not."""
    assert PRIMARY.primary
    assert not PRIMARY.streaming
    assert STREAMING.streaming
    assert not STREAMING.primary
    assert not PatroniNode("primary", "stopping", 1, ()).primary
