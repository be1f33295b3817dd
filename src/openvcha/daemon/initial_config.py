"""The first configuration of a cluster, written once by its only node."""

from typing import NamedTuple

from openvcha.api.structures import ClusterMode, ConfigState, IpFamily, IpSpec, Ipv4Spec, Ipv6Spec
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports, cluster_record
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Inventory
from openvcha.node.identity import HOSTS, UNMANAGED, Identity
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
    await record.create(first_config(identity, await _machine(infrastructure, identity)))


class Machine(NamedTuple):
    """The machine of the only node; ``vm`` and ``bios_uuid`` are empty if it is in no inventory."""

    vm: str
    bios_uuid: str
    ha_prefix: int
    public_prefix: int


def first_config(identity: Identity, own: Machine) -> ClusterConfig:
    """Return the configuration of a cluster that has not been deployed yet."""
    management = _spec(identity.public_address, own.public_prefix)
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
                vm=own.vm,
                bios_uuid=own.bios_uuid,
                ha_ip=_spec(identity.ha_address, own.ha_prefix),
                failover_ip=management,
            ),
        ),
    )


def _others(identity: Identity, kept: KeptCluster | None) -> list[str]:
    """Return the peers of the node, at its creation or since; a stand-alone node has none."""
    known = {one.member or one.peer_url for one in kept.others} if kept else set[str]()
    return sorted((known | set(identity.etcd_initial_cluster)) - {identity.member})


async def _machine(infrastructure: Infrastructure, identity: Identity) -> Machine:
    """Return what the inventory knows of this node, or what its identity says without one.

    Raises LookupError.
    """
    given = identity.infrastructure
    if given.get("kind") in {UNMANAGED, HOSTS}:
        return Machine("", "", int(given["ha_prefix"]), int(given["public_prefix"]))
    inventory = await infrastructure.inventory()
    vm = inventory.vm(identity.vm)
    if vm is None:
        raise LookupError(f"the inventory does not know this node's VM {identity.vm}")
    ha, public = (_prefix(inventory, each) for each in (vm.networks.ha, vm.networks.management))
    return Machine(vm.id, vm.bios_uuid, ha, public)


def _prefix(inventory: Inventory, network: str) -> int:
    found = inventory.network(network)
    if found is None:
        raise LookupError(f"the inventory does not know the network {network}")
    return int(found.subnet.rsplit("/", 1)[1])


def _spec(address: str, prefix: int) -> IpSpec:
    if ":" in address:
        return IpSpec(ip_family=IpFamily.IPV6, ipv6=Ipv6Spec(address=address, prefix=prefix))
    return IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address=address, prefix=prefix))
