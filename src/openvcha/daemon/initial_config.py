"""The first configuration of a cluster, written once by its only node."""

from openvcha.api.structures import ClusterMode, ConfigState, IpFamily, IpSpec, Ipv4Spec, Ipv6Spec
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports, cluster_record
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.node.identity import Identity
from openvcha.node.local_records.cluster import KeptCluster
from openvcha.store import keys
from openvcha.store.errors import RecordMissing
from openvcha.store.interface import Store


async def write_first_config(
    store: Store,
    infrastructure: Infrastructure,
    identity: Identity,
    kept: KeptCluster | None = None,
) -> None:
    """Write the configuration of a one-node cluster, unless one exists.

    ``kept`` is the node's local copy of the cluster. Raises RecordMissing if the node has had
    peers: then the configuration has been deleted, and a new one would lose them.
    """
    record = cluster_record(store)
    if await record.get() is not None:
        return
    if others := _others(identity, kept):
        raise RecordMissing(
            f"{keys.CLUSTER} is gone, and this node has no copy. Since it has had other"
            f" nodes ({', '.join(others)}), it does not start a new configuration. Let the"
            " node that has a copy lead, or deploy again after make-standalone"
        )
    inventory = await infrastructure.inventory()
    vm = inventory.vm(identity.vm)
    if vm is None:
        raise LookupError(f"the inventory does not know this node's VM {identity.vm}")
    await record.create(first_config(identity, inventory, vm))


def first_config(identity: Identity, inventory: Inventory, vm: Vm) -> ClusterConfig:
    """Return the configuration of a cluster that has not been deployed yet."""
    management = _spec(identity.public_address, _subnet(inventory, vm.networks.management))
    ports = identity.ports
    return ClusterConfig(
        id=identity.cluster_id,
        name=identity.cluster_name,
        state=ConfigState.NOTCONFIGURED,
        deployment="NONE",
        mode=ClusterMode.ENABLED,
        management=management,
        ports=Ports(
            etcd_client=ports.etcd_client,
            etcd_peer=ports.etcd_peer,
            patroni=ports.patroni,
            postgres=ports.postgres,
            api=ports.api,
        ),
        nodes=(
            NodeConfig(
                member=identity.member,
                name=identity.name,
                kind=NodeKind.DATA,
                vm=vm.id,
                bios_uuid=vm.bios_uuid,
                ha_ip=_spec(identity.ha_address, _subnet(inventory, vm.networks.ha)),
                failover_ip=management,
            ),
        ),
    )


def _others(identity: Identity, kept: KeptCluster | None) -> list[str]:
    """Return the peers of the node, at its creation or since; a stand-alone node has none."""
    known = {one.member or one.peer_url for one in kept.others} if kept else set[str]()
    return sorted((known | set(identity.etcd_initial_cluster)) - {identity.member})


def _subnet(inventory: Inventory, network: str) -> str:
    found = inventory.network(network)
    if found is None:
        raise LookupError(f"the inventory does not know the network {network}")
    return found.subnet


def _spec(address: str, subnet: str) -> IpSpec:
    prefix = int(subnet.rsplit("/", 1)[1])
    if ":" in address:
        return IpSpec(ip_family=IpFamily.IPV6, ipv6=Ipv6Spec(address=address, prefix=prefix))
    return IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address=address, prefix=prefix))
