"""The end of the required votes: our own node must have deleted its copy."""

from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.clock import SIMULATED

from openvcha.operations.steps.votes.required_votes import clear_required_votes
from openvcha.store import keys
from openvcha.store.interface import absent
from openvcha.store.memory import MemoryStore
from openvcha.tasks.steps import TemporaryFailure

pytestmark = SIMULATED

CONFIRMED = keys.required_votes_confirmed("a")


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_copy_is_waited_for_whether_it_was_confirmed_or_not(confirmed: bool) -> None:
    """A node that still has it would power on nodes that the task has removed."""
    store, copies = MemoryStore(), [True, False]
    if confirmed:
        await store.put(CONFIRMED, b"1")
    services: Any = SimpleNamespace(
        store=store,
        identity=SimpleNamespace(member="a", name="vcha-1"),
        requires_votes=lambda: copies.pop(0),
    )
    ctx: Any = SimpleNamespace(guard=absent("another runner"))
    with pytest.raises(TemporaryFailure):
        await clear_required_votes(services, ctx)
    await clear_required_votes(services, ctx)
    assert copies == []
    assert await store.get(CONFIRMED) is None
