"""The guard of the last copy: only a primary seen running now is known to have every row."""

from tests.support.simulated.observations import ObservationBuilder

from openvcha.operations.steps.last_copy import last_copy

PASSIVE = "b-2"


def test_beside_a_running_primary_the_data_may_go() -> None:
    """It has every acknowledged write."""
    assert last_copy(ObservationBuilder().seen, PASSIVE, "vcha-2") is None


def test_an_active_that_has_just_missed_an_answer_is_no_guard() -> None:
    """Its state some seconds ago is not enough to delete data; the failure may pass."""
    world = ObservationBuilder()
    world.node("a-1", unsure=True)
    refusal = last_copy(world.seen, PASSIVE, "vcha-2")
    assert refusal is not None
    assert refusal.transient
