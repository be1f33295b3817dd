"""Which mode changes are allowed when, and in which order they are made."""

import json
from collections.abc import Callable
from itertools import product

import pytest
from tests.support.simulated.observations import ObservationBuilder

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.cluster import modes, preconditions
from openvcha.cluster.mode_settings import with_setting
from openvcha.cluster.modes import SETTINGS, setting_changes
from openvcha.cluster.observing.store_space import StoreSpace
from openvcha.store.keys import ALONE, DETACHED, PAUSE
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import MemberState, SyncState, read_member

ENABLED, DISABLED, MAINTENANCE = ClusterMode.ENABLED, ClusterMode.DISABLED, ClusterMode.MAINTENANCE
EVERY = [ENABLED, DISABLED, MAINTENANCE]
State = Callable[[ObservationBuilder], None]
PREFIX = "com.vmware.vcenter.vcha."


def healthy(world: ObservationBuilder) -> None:
    """Return a healthy cluster for each mode: in DISABLED the standby is down."""
    if world.seen.config.mode is DISABLED:
        world.node("b-2", patroni=PatroniNode("replica", "stopped", None, ()))
        world.set(sync=SyncState("a-1", frozenset()))


def passive_lost(world: ObservationBuilder) -> None:
    healthy(world)
    world.lose("b-2")


def witness_lost(world: ObservationBuilder) -> None:
    healthy(world)
    world.node("w-3", etcd_answers=False)


def passive_silent(world: ObservationBuilder) -> None:
    """Silence the passive's Patroni; its vote stays."""
    healthy(world)
    world.node("b-2", patroni=None)


def other_version(world: ObservationBuilder) -> None:
    """Add a threat beside the state: the cluster stays HEALTHY."""
    healthy(world)
    world.tell("b-2", versions={"patroni": "4.0"})


def no_active(world: ObservationBuilder) -> None:
    healthy(world)
    world.set(leader=None)


def not_deployed(world: ObservationBuilder) -> None:
    world.configure(state=ConfigState.NOTCONFIGURED)


STATES = [
    healthy,
    passive_lost,
    witness_lost,
    passive_silent,
    other_version,
    no_active,
    not_deployed,
]

ALLOWED = {
    (ENABLED, DISABLED): {healthy, passive_lost, witness_lost, passive_silent, other_version},
    (ENABLED, MAINTENANCE): {healthy, other_version},
    (DISABLED, ENABLED): {healthy, other_version},
    (MAINTENANCE, ENABLED): {healthy},
    (MAINTENANCE, DISABLED): {healthy},
}

REASONS: dict[tuple[State, tuple[ClusterMode, ClusterMode]], str] = {
    (no_active, (ENABLED, DISABLED)): "no.active",
    (passive_silent, (DISABLED, ENABLED)): "mode.passive.silent",
    (passive_lost, (DISABLED, ENABLED)): "mode.unhealthy",
    (witness_lost, (MAINTENANCE, DISABLED)): "mode.unhealthy",
    (other_version, (MAINTENANCE, ENABLED)): "mode.versions",
    (healthy, (DISABLED, MAINTENANCE)): "mode.change.never",
    (healthy, (ENABLED, ENABLED)): "mode.same",
    (not_deployed, (ENABLED, ENABLED)): "cluster.not.configured",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("old", "new"), list(product(EVERY, EVERY)))
def test_each_change_in_each_state(
    world: ObservationBuilder,
    old: ClusterMode,
    new: ClusterMode,
    state: Callable[[ObservationBuilder], None],
) -> None:
    """The table, written down a second time, from a user's point of view."""
    world.configure(mode=old)
    state(world)
    found = preconditions.why_not_mode(new, world.seen)
    assert (found is None) is (state in ALLOWED.get((old, new), set())), found
    expected = REASONS.get((state, (old, new)))
    assert expected is None or (found and found.reason.id == PREFIX + expected)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("mode", EVERY)
def test_the_operation_is_refused_when_every_change_is(
    world: ObservationBuilder, mode: ClusterMode, state: Callable[[ObservationBuilder], None]
) -> None:
    """operations.get reports what a call would get."""
    world.configure(mode=mode)
    state(world)
    every = {preconditions.why_not_mode(new, world.seen) is None for new in EVERY}
    assert (preconditions.why_not(preconditions.SET_MODE, world.seen) is None) is (True in every)


@pytest.mark.parametrize("mode", EVERY)
@pytest.mark.parametrize("settings", [frozenset(), frozenset({PAUSE})], ids=str)
def test_only_an_enabled_cluster_without_a_pause_fails_over_by_itself(
    world: ObservationBuilder, mode: ClusterMode, settings: frozenset[str]
) -> None:
    """At the beginning of a change, too, when the mode is still the old one."""
    world.configure(mode=mode)
    world.set(settings=settings)
    assert preconditions.fails_over_by_itself(world.seen) is (mode is ENABLED and not settings)
    passive_lost(world)
    assert not preconditions.fails_over_by_itself(world.seen)


def test_nobody_takes_over_while_the_store_is_full(world: ObservationBuilder) -> None:
    """The leader key is a write: cluster.get does not promise what cannot happen."""
    assert preconditions.fails_over_by_itself(world.seen)
    world.set(space=StoreSpace("a-1", 1000, 900, 1000, full=True))
    assert not preconditions.fails_over_by_itself(world.seen)


@pytest.mark.parametrize(("old", "new"), modes.CHANGES)
def test_a_way_leads_from_one_mode_to_the_other(old: ClusterMode, new: ClusterMode) -> None:
    """Each difference is changed, once."""
    on = set(SETTINGS[old])
    for name, value in setting_changes(old, new):
        assert (name in on) is not value
        (on.add if value else on.remove)(name)
    assert on == SETTINGS[new]


@pytest.mark.parametrize(("old", "new"), modes.CHANGES)
def test_at_no_point_of_a_way_may_somebody_take_over_from_one_who_goes_on_alone(
    old: ClusterMode, new: ClusterMode
) -> None:
    """In both directions: the active is alone, or the standby detached, only under a pause."""
    on = set(SETTINGS[old])
    for name, value in ((None, False), *setting_changes(old, new)):
        if name:
            (on.add if value else on.remove)(name)
        assert PAUSE in on or not on & {ALONE, DETACHED}


def test_settings_are_read_from_what_a_patroni_tells_of_itself() -> None:
    """Its pause is a field, the others are tags; a setting that is off is absent."""
    member = {"state": "running", "pause": True, "tags": {"nosync": True, DETACHED: True}}
    assert read_member(json.dumps(member).encode()) == MemberState(
        state="running", settings=frozenset({PAUSE, DETACHED})
    )
    assert read_member(b'{"state":"running","tags":7}') == MemberState(state="running")


def test_a_switched_setting_leaves_all_others() -> None:
    """All other configuration stays; a setting that is off is absent."""
    fields = {"ttl": 20, "postgresql": {"use_slots": True}}
    on = with_setting(fields, PAUSE, value=True)
    assert on == {**fields, PAUSE: True}
    assert with_setting(on, PAUSE, value=False) == fields


@pytest.mark.parametrize("state", [healthy, passive_silent])
def test_a_passive_that_only_the_mode_keeps_down_is_not_replaced(
    world: ObservationBuilder, state: Callable[[ObservationBuilder], None]
) -> None:
    """Even while its Patroni is silent, as while PostgreSQL stops."""
    world.configure(mode=DISABLED)
    state(world)
    found = preconditions.why_not(preconditions.REDEPLOY_PASSIVE, world.seen)
    assert found
    assert found.reason.id == PREFIX + "passive.detached"
