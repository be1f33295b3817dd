"""What the steps ask of the nodes' VMs."""

from typing import cast

from openvcha.api.structures import IpFamily, IpSpec, Ipv4Spec
from openvcha.cluster.config import NodeConfig, NodeKind
from openvcha.infrastructure.interface import Infrastructure, NodeState
from openvcha.operations.steps.node_vms import surely_off
from openvcha.store import keys
from openvcha.store.errors import RecordUnreadable


async def test_an_unreadable_inventory_says_nothing_of_the_power() -> None:
    """A forged or broken record must not keep the cluster from being observed."""

    class Unreadable:
        async def node(self, vm_id: str) -> NodeState:
            raise RecordUnreadable(keys.INVENTORY, f"no seal, {vm_id}")

    node = NodeConfig(
        member="b-1",
        name="b",
        kind=NodeKind.DATA,
        vm="vm-12",
        bios_uuid="uuid",
        ha_ip=IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address="127.0.0.2", prefix=24)),
    )
    assert not await surely_off(cast("Infrastructure", Unreadable()), node)
