"""Bringing a lab up while its API comes and goes. SIMULATED: only the waiting is real."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.lab.narrator import Narrator

from openvcha.client.errors import RequestRefused, ServerUnreachable
from openvcha.lab import up

pytestmark = pytest.mark.looptime

UNAVAILABLE = RequestRefused(503, {"error_type": "SERVICE_UNAVAILABLE", "messages": []})
BAD = RequestRefused(400, {"error_type": "INVALID_ARGUMENT", "messages": []})


async def brought_up(patch: pytest.MonkeyPatch, *ends: Exception | bool) -> tuple[bool, list[str]]:
    """Bring up a lab whose last part ends in these ways, one after the other."""
    left = list(ends)

    async def nothing(*_: Any, **__: Any) -> None:
        pass

    async def finish(*_: Any, **__: Any) -> bool:
        end = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(end, Exception):
            raise end
        return end

    for name in ("open_infrastructure", "_finish_running", "_power_on", "_answering"):
        patch.setattr(up, name, nothing)
    patch.setattr(up, "first_node_made", lambda _: True)
    patch.setattr(up, "_finish", finish)
    lab: Any = SimpleNamespace(directory=Path("/simulated"), state=lambda: SimpleNamespace(api="a"))
    narrator: Any = Narrator()
    return await up._up(lab, narrator, active_only=False), narrator.said


async def test_an_api_that_goes_away_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The active may step down just as the others return."""
    ends = (ServerUnreachable("away"), UNAVAILABLE, True)
    assert await brought_up(monkeypatch, *ends) == (True, ["The API is gone again"] * 2)


async def test_it_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the last reason."""
    with pytest.raises(ServerUnreachable, match="away"):
        await brought_up(monkeypatch, ServerUnreachable("away"))


async def test_a_refusal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused again."""
    with pytest.raises(RequestRefused):
        await brought_up(monkeypatch, BAD, True)
