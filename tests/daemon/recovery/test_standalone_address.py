"""A node that was made stand-alone, and the public address of its lab."""

from pathlib import Path

from msgspec.structs import replace
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.switches import free_place, hold, switching

from openvcha.api.structures import ConfigState
from openvcha.daemon.recovery.standalone import stand_alone
from openvcha.node.etcd.account import new_data_account


async def test_its_lower_term_gets_the_address(tmp_path: Path) -> None:
    """Its own store may not know when the lost node last became the leader."""
    world, own, place = SimulatedCluster(), new_data_account(), free_place()
    node = await world.found("vcha-1", 1)
    await world.configure(ConfigState.NOTCONFIGURED, node)
    local = {"kind": "local", "root": str(tmp_path)}
    identity = replace(world.machine(node.member).identity, infrastructure=local)
    async with switching(tmp_path):
        (await hold(tmp_path, place, 900)).vanish()
        await stand_alone(world.store, identity, lambda: own)
        await hold(tmp_path, place, 20)
    await world.end()
