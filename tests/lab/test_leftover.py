"""Which VMs may be destroyed by name: those that the cluster does not need."""

from pathlib import Path

import pytest
from tests.support.lab.inventory import _vm
from tests.support.simulated.observations import ip

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.client.errors import CommandError
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports
from openvcha.infrastructure.inventory import Inventory
from openvcha.lab import power
from openvcha.lab.leftover import require_unneeded, why_needed
from openvcha.lab.state import Lab, LabState
from openvcha.store.interface import Member

LAB = Lab(Path("/labs/mine"))
ACTIVE = NodeConfig(
    member="vcha-1-a",
    name="vcha-1",
    kind=NodeKind.DATA,
    vm="vm-41",
    bios_uuid="",
    ha_ip=ip("127.83.2.11"),
)
CONFIG = ClusterConfig(
    id="c",
    name="c",
    state=ConfigState.INVALID,
    deployment="AUTO",
    mode=ClusterMode.ENABLED,
    management=ip("127.83.1.10"),
    ports=Ports(),
    nodes=(ACTIVE,),
)


def member(name: str, *, learner: bool = False) -> Member:
    return Member(1, name, (), (), learner)


def reason(vm: str, *members: Member, running: str | None = None) -> str | None:
    return why_needed(LAB, vm, "vcha-2-b", config=CONFIG, members=members, running=running)


def test_what_nobody_needs_may_go() -> None:
    """It has no vote and is not configured; a missing learner stops no store."""
    assert reason("vm-42", member("vcha-1-a")) is None
    assert reason("vm-42", member("vcha-1-a"), member("vcha-2-b", learner=True)) is None


def test_what_somebody_needs_stays() -> None:
    """The error says what to do instead, for this lab."""
    assert "is a node of the cluster" in (reason("vm-41") or "")
    assert "an operation is running" in (reason("vm-42", running="t") or "")
    voting = reason("vm-42", member("vcha-2-b")) or ""
    assert "has a vote in the store" in voting
    assert "`vcha lab up --name mine --dir /labs`" in voting


async def test_where_nobody_can_tell_it_stays(tmp_path: Path) -> None:
    """Unknown does not permit it."""
    lab = Lab(tmp_path / "x")
    lab.make(LabState(name="x", octet=83, cluster_id="c"))
    vm = _vm("vm-42", "vcha-2")
    with pytest.raises(CommandError, match="cannot tell whether the cluster still needs it"):
        await require_unneeded(lab, Inventory(vms=(vm,)), vm)


async def test_the_active_is_never_destroyed(tmp_path: Path) -> None:
    """Nor by its role."""
    with pytest.raises(CommandError, match="the active cannot be destroyed"):
        await power.destroy(Lab(tmp_path / "x"), "active")
