"""One function says why an operation is refused."""

from collections.abc import Callable

import pytest
from tests.support.simulated.observations import ObservationBuilder

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.cluster import preconditions
from openvcha.cluster.preconditions import why_not
from openvcha.store.keys import PAUSE
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState


def nothing(world: ObservationBuilder) -> None:
    """Leave the cluster unchanged."""


def not_deployed(world: ObservationBuilder) -> None:
    world.configure(state=ConfigState.NOTCONFIGURED, nodes=world.seen.config.nodes[:1])


def half_deployed(world: ObservationBuilder) -> None:
    world.configure(state=ConfigState.INVALID)


def disabled(world: ObservationBuilder) -> None:
    world.configure(mode=ClusterMode.DISABLED)


def active_without_vote(world: ObservationBuilder) -> None:
    world.node("a-1", etcd_answers=False)


def passive_and_witness_lost(world: ObservationBuilder) -> None:
    """Lose the passive's PostgreSQL and the witness: the passive's vote is needed for quorum."""
    passive_lags(world)
    witness_lost(world)


def passive_voteless_and_witness_lost(world: ObservationBuilder) -> None:
    """Take the passive's vote and lose the witness, as in the middle of a redeploy."""
    world.node("b-2", voter=False)
    witness_lost(world)


def witness_lost_and_passive_voteless(world: ObservationBuilder) -> None:
    world.node("b-2", etcd_answers=False)
    witness_lost(world)


def passive_lost(world: ObservationBuilder) -> None:
    world.lose("b-2")


def witness_lost(world: ObservationBuilder) -> None:
    world.node("w-3", etcd_answers=False)


def passive_lags(world: ObservationBuilder) -> None:
    world.set(sync=SyncState("a-1", frozenset()))


def active_starting(world: ObservationBuilder) -> None:
    world.lose("b-2")
    world.node("a-1", patroni=PatroniNode("primary", "starting", 1, ()))


def no_leader(world: ObservationBuilder) -> None:
    world.set(leader=None)


def led_by_a_stranger(world: ObservationBuilder) -> None:
    world.set(leader="frozen-9", sync=SyncState("frozen-9", frozenset({"b-2"})))


def led_by_a_stranger_with_the_witness_lost(world: ObservationBuilder) -> None:
    led_by_a_stranger(world)
    witness_lost(world)


def led_by_a_stranger_under_a_pause(world: ObservationBuilder) -> None:
    """During a mode change: a leader may acknowledge alone by now."""
    led_by_a_stranger(world)
    world.set(settings=frozenset({PAUSE}))


def led_by_a_stranger_with_a_silent_heir(world: ObservationBuilder) -> None:
    led_by_a_stranger(world)
    world.node("b-2", patroni=None)


def led_by_a_stranger_with_a_voteless_heir(world: ObservationBuilder) -> None:
    led_by_a_stranger(world)
    world.node("b-2", voter=False)


def led_by_a_stranger_with_an_unsure_heir(world: ObservationBuilder) -> None:
    led_by_a_stranger(world)
    world.node("b-2", unsure=True)


def led_by_a_stranger_after_another(world: ObservationBuilder) -> None:
    """/sync is the previous leader's."""
    led_by_a_stranger(world)
    world.set(sync=SyncState("a-1", frozenset({"b-2"})))


UNPROVEN = "failover.stranger.unproven"
TABLE = [
    (preconditions.FAILOVER, led_by_a_stranger, None),
    (preconditions.FAILOVER, led_by_a_stranger_with_the_witness_lost, None),
    (preconditions.FAILOVER, led_by_a_stranger_under_a_pause, UNPROVEN),
    (preconditions.FAILOVER, led_by_a_stranger_with_a_silent_heir, UNPROVEN),
    (preconditions.FAILOVER, led_by_a_stranger_with_a_voteless_heir, UNPROVEN),
    (preconditions.FAILOVER, led_by_a_stranger_with_an_unsure_heir, UNPROVEN),
    (preconditions.FAILOVER, led_by_a_stranger_after_another, UNPROVEN),
    (preconditions.UNDEPLOY, led_by_a_stranger, "active.stranger"),
    (preconditions.DEPLOY, nothing, "cluster.exists"),
    (preconditions.DEPLOY, not_deployed, None),
    (preconditions.DEPLOY, half_deployed, "deploy.remains"),
    (preconditions.REDEPLOY_PASSIVE, passive_and_witness_lost, "no.majority"),
    (preconditions.REDEPLOY_PASSIVE, passive_voteless_and_witness_lost, None),
    (preconditions.REDEPLOY_WITNESS, witness_lost_and_passive_voteless, "no.majority"),
    (preconditions.FAILOVER, disabled, "failover.mode.disabled"),
    (preconditions.FAILOVER, active_without_vote, "failover.node.lost"),
    (preconditions.REDEPLOY_PASSIVE, nothing, "passive.healthy"),
    (preconditions.REDEPLOY_PASSIVE, not_deployed, "cluster.not.configured"),
    (preconditions.REDEPLOY_PASSIVE, passive_lost, None),
    (preconditions.REDEPLOY_PASSIVE, passive_lags, None),
    (preconditions.REDEPLOY_PASSIVE, active_starting, "no.active"),
    (preconditions.REDEPLOY_PASSIVE, no_leader, "no.active"),
    (preconditions.REDEPLOY_WITNESS, nothing, "witness.healthy"),
    (preconditions.REDEPLOY_WITNESS, witness_lost, None),
    (preconditions.FAILOVER, nothing, None),
    (preconditions.FAILOVER, witness_lost, "failover.node.lost"),
    (preconditions.FAILOVER, passive_lost, "failover.node.lost"),
    (preconditions.FAILOVER, passive_lags, "failover.passive.not.ready"),
    (preconditions.UNDEPLOY, not_deployed, "cluster.not.configured"),
    (preconditions.UNDEPLOY, nothing, None),
    (preconditions.UNDEPLOY, half_deployed, None),
    (preconditions.UNDEPLOY, passive_lost, None),
    (preconditions.UNDEPLOY, no_leader, "no.active"),
    (preconditions.UNDEPLOY, active_without_vote, "active.no.vote"),
    (preconditions.SET_MODE, not_deployed, "cluster.not.configured"),
    ("com.vmware.vcenter.vcha.cluster.get", no_leader, None),
]


@pytest.mark.parametrize(("operation", "breaks", "reason"), TABLE)
def test_each_operation_is_refused_for_its_reason(
    world: ObservationBuilder,
    operation: str,
    breaks: Callable[[ObservationBuilder], None],
    reason: str | None,
) -> None:
    """The most useful reason, or none."""
    breaks(world)
    found = why_not(operation, world.seen)
    said = found.reason.id.removeprefix("com.vmware.vcenter.vcha.") if found else None
    assert said == reason
