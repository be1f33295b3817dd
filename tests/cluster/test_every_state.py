"""Every operation in every state and mode: allowed, or refused with which reason."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from tests.support.every_state import ALLOWED, MODES, OPERATIONS, PREFIX, TABLE, expected
from tests.support.simulated.observations import ObservationBuilder

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.cluster import preconditions
from openvcha.cluster.config import NodeKind, PlannedNode
from openvcha.cluster.refusal import Refusal
from openvcha.store.patroni.state import SyncState


def single(world: ObservationBuilder) -> None:
    nodes = world.seen.nodes[:1]
    world.set(nodes=nodes)
    world.configure(state=ConfigState.NOTCONFIGURED, nodes=(nodes[0].config,), deployment="NONE")


def prepared(world: ObservationBuilder) -> None:
    places = [
        PlannedNode(kind=node.config.kind, ha_ip=node.config.ha_ip) for node in world.seen.nodes[1:]
    ]
    single(world)
    world.configure(state=ConfigState.PREPARED, planned=tuple(places), deployment="MANUAL")


def one_joined(world: ObservationBuilder) -> None:
    prepared(world)
    places = world.seen.config.planned
    witness = next(place for place in places if place.kind is NodeKind.WITNESS)
    world.configure(planned=(places[0], replace(witness, member="w-3", name="vcha-3")))


def half_deployed(world: ObservationBuilder) -> None:
    world.configure(state=ConfigState.INVALID)


def healthy(world: ObservationBuilder) -> None:
    if world.seen.config.mode is ClusterMode.DISABLED:
        world.set(sync=SyncState("a-1", frozenset()))


def passive_lost(world: ObservationBuilder) -> None:
    world.lose("b-2")


def witness_lost(world: ObservationBuilder) -> None:
    healthy(world)
    world.node("w-3", etcd_answers=False)


def not_in_sync(world: ObservationBuilder) -> None:
    world.set(sync=SyncState("a-1", frozenset()))


def nobody_leads(world: ObservationBuilder) -> None:
    healthy(world)
    world.set(leader=None)


def a_stranger_leads(world: ObservationBuilder) -> None:
    healthy(world)
    world.set(leader="frozen-9")


def a_stranger_leads_in_sync(world: ObservationBuilder) -> None:
    a_stranger_leads(world)
    world.set(sync=SyncState("frozen-9", frozenset({"b-2"})))


STATES: dict[str, Callable[[ObservationBuilder], None]] = {
    state.__name__.replace("_", " "): state
    for state in (
        single,
        prepared,
        one_joined,
        half_deployed,
        healthy,
        passive_lost,
        witness_lost,
        not_in_sync,
        a_stranger_leads,
        a_stranger_leads_in_sync,
        nobody_leads,
    )
}


def reason(said: Refusal | None) -> str:
    return ALLOWED if said is None else said.reason.id.removeprefix(PREFIX)


def found(state: str, mode: str) -> list[str]:
    world = ObservationBuilder()
    world.configure(mode=MODES[mode])
    STATES[state](world)
    seen = world.seen
    answers = [reason(preconditions.why_not(operation, seen)) for operation in OPERATIONS.values()]
    return answers + [reason(preconditions.why_not_mode(wanted, seen)) for wanted in MODES.values()]


def test_the_table_has_each_state() -> None:
    """And none that is not built here."""
    assert TABLE.keys() == STATES.keys()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
def test_every_operation_is_allowed_or_refused_with_its_reason(state: str, mode: str) -> None:
    """Without a cluster the mode does not matter."""
    assert found(state, mode) == expected(state, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
def test_a_change_of_the_mode_is_refused_as_a_whole_when_each_one_is(state: str, mode: str) -> None:
    """`operations.get` lists exactly that."""
    world = ObservationBuilder()
    world.configure(mode=MODES[mode])
    STATES[state](world)
    changes = found(state, mode)[len(OPERATIONS) :]
    assert (reason(preconditions.why_not(preconditions.SET_MODE, world.seen)) == ALLOWED) == (
        ALLOWED in changes
    )
