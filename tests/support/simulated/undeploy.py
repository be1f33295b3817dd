"""An undeploy of the simulated cluster, as a caller starts it."""

import asyncio

from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.structures import (
    ConfigState,
    TaskStatus,
    UndeploySpec,
)
from openvcha.cluster import patroni_client
from openvcha.node.identity import IDENTITY
from openvcha.operations.steps.leaving.removed_access import NODE_FILES
from openvcha.store import keys

ACTIVE, PASSIVE, WITNESS = "vcha-1-old", "vcha-2-old", "vcha-3-old"


OTHERS = ("vcha-2", "vcha-3")


def arm(scene: ClusterScenario) -> None:
    """Create the files of a real node for each node."""
    for machine in scene.world.machines.values():
        machine.files.update({path: b"secret" for path in NODE_FILES if path != IDENTITY})


async def begin(scene: ClusterScenario, spec: UndeploySpec | None = None) -> None:
    """Start an undeploy of a healthy cluster."""
    await scene.healthy()
    arm(scene)
    await scene.undeploy(spec)


async def validate_alone(scene: ClusterScenario, *, kept: bool) -> None:
    """Check for one node, one vote, every acknowledged row, and no credentials of another node."""
    world = scene.world
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    assert world.violations == []
    assert world.waits == []
    assert world.machine(ACTIVE).required_votes is None
    assert await world.store.get(keys.OPERATION) is None
    config = await world.config()
    assert [node.member for node in config.nodes] == [ACTIVE]
    assert (config.state, config.deployment) == (ConfigState.NOTCONFIGURED, "NONE")
    assert [member.name for member in world.members] == [ACTIVE]
    assert not world.store.accounts.known
    assert await patroni_client.settings(world.store) == patroni_client.WITH_STANDBY
    left = {vm.name for vm in world.state.inventory.vms}
    assert left == ({"vcha-1", *OTHERS} if kept else {"vcha-1"})
    validate_disarmed(scene)
    validate_renewed(scene)
    assert await world.store.get(keys.PATRONI_FAILSAFE) is None
    before = world.acknowledged
    await asyncio.sleep(3)
    assert world.acknowledged > before


def validate_renewed(scene: ClusterScenario) -> None:
    """Check that they were renewed exactly once: a second authority could be an attacker's."""
    own = scene.world.machine(ACTIVE)
    assert (own.authority, own.renewing) == (1, False)


def validate_disarmed(scene: ClusterScenario) -> None:
    """Fail if another node than the active is on or has its files."""
    own = scene.world.machine(ACTIVE)
    for machine in scene.world.machines.values():
        if machine is not own:
            assert not machine.on
            assert not any(machine.files.get(path) for path in NODE_FILES)
