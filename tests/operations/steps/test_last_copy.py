"""The guard of the last copy: only a running primary, seen now, is known to hold everything."""

from tests.support.simulated.observations import World

from openvcha.operations.steps.last_copy import last_copy

PASSIVE = "b-2"


def test_beside_a_running_primary_the_data_may_go() -> None:
    """It holds every acknowledged write."""
    assert last_copy(World().seen, PASSIVE, "vcha-2") is None


def test_an_active_that_has_just_missed_an_answer_is_no_guard() -> None:
    """What it was some seconds ago is not enough to delete data by; it may pass."""
    world = World()
    world.node("a-1", unsure=True)
    refusal = last_copy(world.seen, PASSIVE, "vcha-2")
    assert refusal is not None
    assert refusal.transient
