"""The settings that a person asks for when a lab is created. SIMULATED: no node runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.lab.narrator import Narrator

from openvcha.client.errors import CommandError
from openvcha.lab import up
from openvcha.lab.access import open_infrastructure
from openvcha.lab.first_node import make_first_node
from openvcha.lab.settings import SettingsRequest
from openvcha.lab.state import Lab
from openvcha.node.identity import ApiSettings, StoreLimits, Timers, load_identity

ASKED = SettingsRequest(quota_bytes=32 << 20, leader_ttl=30, stuck_standby=45, workers=2)
NARRATOR: Any = Narrator()


async def begun(patch: pytest.MonkeyPatch, lab: Lab, asked: SettingsRequest | None) -> None:
    """Run `lab up`, which is interrupted as soon as the lab has its addresses."""

    async def interrupted(*_: Any, **__: Any) -> bool:
        raise asyncio.CancelledError

    patch.setattr(up, "_up", interrupted)
    with pytest.raises(asyncio.CancelledError):
        await up.up(lab, NARRATOR, settings=asked)


async def test_an_interrupted_first_up_keeps_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next one, without options, continues: the first node gets what the first asked for."""
    lab = Lab(tmp_path / "x")
    await begun(monkeypatch, lab, ASKED)
    await begun(monkeypatch, lab, None)
    vm = await make_first_node(lab, await open_infrastructure(lab))
    identity = load_identity(Path(vm.directory))
    assert identity.timers == Timers(leader_ttl=30, stuck_standby=45)
    assert identity.store == StoreLimits(quota_bytes=32 << 20)
    assert identity.api == ApiSettings(workers=2)


async def test_the_same_options_are_accepted_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script may bring a lab up more than once."""
    lab = Lab(tmp_path / "x")
    await begun(monkeypatch, lab, ASKED)
    await begun(monkeypatch, lab, ASKED)
    await begun(monkeypatch, lab, SettingsRequest(replication_lag=Timers().replication_lag))


async def test_other_options_for_a_lab_that_exists_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would be ignored; the refusal names the lab's own."""
    lab = Lab(tmp_path / "x")
    await begun(monkeypatch, lab, ASKED)
    other = SettingsRequest(leader_ttl=20, stuck_standby=45, stopped_store=9, workers=0)
    with pytest.raises(CommandError, match="with --leader-ttl 30 --peers-after 5 --api-workers 2;"):
        await up.up(lab, NARRATOR, settings=other)
    assert lab.state().settings.timers.leader_ttl == 30
