"""A refused failover is an event, and stays refused if the event cannot be recorded."""

from typing import Any

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import CATALOGUE, PREFIX, message
from openvcha.api.operations import by_id
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.preconditions import FAILOVER, SET_MODE
from openvcha.events.log import EventLog
from openvcha.operations.registry import Handlers
from openvcha.store.errors import StoreUnavailable

pytestmark = SIMULATED


def said(reason: str) -> LocalizableMessage:
    """Return a reason; its content does not matter."""
    return message(reason, *["x"] * CATALOGUE[PREFIX + reason].count("%s"))


def refusing(scene: ClusterScenario, operation: str, reason: str) -> Handlers:
    """Return the handlers of a process, one of which refuses."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said(reason))

    handlers = Handlers(scene.process().services)
    handlers._handlers = {operation: refuse}
    return handlers


@pytest.mark.parametrize(
    ("operation", "reason", "kinds"),
    [
        (FAILOVER, "failover.mode.disabled", ["failed.disabled.mode"]),
        (FAILOVER, "failover.node.lost", ["failed.node.lost"]),
        (FAILOVER, "failover.passive.not.ready", ["failed.passive.not.ready"]),
        (FAILOVER, "failover.stranger.unproven", ["failed.passive.not.ready"]),
        (FAILOVER, "cluster.not.configured", []),
        (SET_MODE, "failover.node.lost", []),
    ],
)
async def test_a_refused_failover_is_told_by_its_reason(
    scene: ClusterScenario, operation: str, reason: str, kinds: list[str]
) -> None:
    """And the caller gets the same refusal."""
    await scene.cluster()
    with pytest.raises(ApiError) as raised:
        await refusing(scene, operation, reason).invoke(by_id(operation), {}, CALLER)
    assert raised.value.messages[0] == said(reason)
    found = await EventLog(scene.world.store).list()
    assert [event.type.removeprefix("com.vmware.vcha.failover.") for event in found] == kinds


async def test_a_store_that_is_away_does_not_change_the_refusal(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller needs the reason."""
    await scene.cluster()
    handlers = refusing(scene, FAILOVER, "failover.node.lost")

    async def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(EventLog, "add", away)
    with pytest.raises(ApiError) as raised:
        await handlers.invoke(by_id(FAILOVER), {}, CALLER)
    assert raised.value.messages[0] == message("failover.node.lost")
