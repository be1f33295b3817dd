"""A lab whose deployment has failed: `lab up` deploys again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.lab.narrator import Narrator

from openvcha.lab import up
from openvcha.lab.state import Lab, LabState


async def deployed(
    patch: pytest.MonkeyPatch, lab: Lab, state: str, *, active_only: bool = False
) -> list[str]:
    """Bring a lab up from this configuration state; return the calls of deploy."""
    called: list[str] = []

    async def cluster(*_: Any, **__: Any) -> dict[str, str]:
        return {"config_state": state, "health_state": "HEALTHY"}

    async def deploy(_api: Any, _state: Any, _inventory: Any, active: str) -> str:
        called.append(active)
        return "task"

    async def followed(*_: Any) -> None:
        pass

    async def active(*_: Any) -> Any:
        return SimpleNamespace(ha_address="127.83.2.11")

    patch.setattr(up, "cluster", cluster)
    patch.setattr(up, "deploy", deploy)
    patch.setattr(up, "follow_to_success", followed)
    patch.setattr(up, "_active", active)
    narrator: Any = Narrator()
    api: Any = None
    assert await up._deployed(lab, api, narrator, active_only=active_only)
    return called


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "x")
    lab.make(LabState(name="x", octet=83, cluster_id="c"))
    return lab


@pytest.mark.parametrize("state", ["NOTCONFIGURED", "INVALID"])
async def test_what_is_not_deployed_is(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, state: str
) -> None:
    """A failed deployment does not prevent the next; --active-only leaves it alone."""
    assert await deployed(monkeypatch, lab, state) == ["127.83.2.11"]
    assert await deployed(monkeypatch, lab, state, active_only=True) == []


@pytest.mark.parametrize("state", ["CONFIGURED", "PREPARED"])
async def test_what_is_deployed_is_left(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, state: str
) -> None:
    """Deploy is not called."""
    assert await deployed(monkeypatch, lab, state) == []
