"""The eight lists: a set is "any of these", the fields together are "all of these"."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from openvcha.api.codec.encode import encode_rest
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    ClusterFilterSpec,
    DatacenterFilterSpec,
    DatastoreFilterSpec,
    DatastoreType,
    FolderFilterSpec,
    FolderType,
    HostConnectionState,
    HostFilterSpec,
    InventoryNetworkType,
    NetworkFilterSpec,
    ResourcePoolFilterSpec,
    VmFilterSpec,
    VmPowerState,
)
from openvcha.api.types import Structure
from openvcha.infrastructure import queries
from openvcha.infrastructure.inventory import Inventory, Vm, VmNetworks

ALL = {
    queries.list_datacenters: ["datacenter-2", "datacenter-3"],
    queries.list_clusters: ["domain-c8", "domain-c9"],
    queries.list_folders: ["group-d1", "group-v3", "group-h4"],
    queries.list_hosts: ["host-11", "host-12", "host-13", "host-21", "host-31"],
    queries.list_resource_pools: ["resgroup-9", "resgroup-10", "resgroup-30"],
    queries.list_networks: ["network-12", "network-15", "dvportgroup-16", "network-99"],
    queries.list_datastores: ["datastore-14", "datastore-17", "datastore-99"],
    queries.list_vms: ["vm-41", "vm-42"],
}
NEAR = frozenset({"datacenter-2"})
FAR = frozenset({"datacenter-3"})
C8 = frozenset({"domain-c8"})


def some(*values: Any) -> frozenset[Any]:
    return frozenset(values)


def vm(identifier: str, host: str, state: VmPowerState) -> Vm:
    return Vm(
        id=identifier,
        name=f"name {identifier}",
        token=identifier,
        bios_uuid=identifier,
        host=host,
        folder="group-v3",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        networks=VmNetworks(ha="network-15", management="network-12"),
        directory=identifier,
        power_state=state,
    )


@pytest.fixture
def full(inventory: Inventory) -> Inventory:
    vms = (
        vm("vm-41", "host-11", VmPowerState.POWERED_ON),
        vm("vm-42", "host-31", VmPowerState.POWERED_OFF),
    )
    lost = replace(inventory.hosts[2], connection_state=HostConnectionState.DISCONNECTED)
    hosts = (*inventory.hosts[:2], lost, *inventory.hosts[3:])
    return replace(inventory, vms=vms, hosts=hosts)


def identifiers(summaries: Iterable[Structure]) -> list[str]:
    """Return the first field of each summary, its identifier."""
    return [getattr(summary, summary.__struct_fields__[0]) for summary in summaries]


@pytest.mark.parametrize("query", ALL)
def test_no_filter(query: Callable[..., list[Any]], full: Inventory) -> None:
    """Without a filter, or with an empty one, everything is listed."""
    assert identifiers(query(full)) == ALL[query]
    assert identifiers(query(full, None)) == ALL[query]


FILTERS = [
    (queries.list_datacenters, DatacenterFilterSpec(datacenters=NEAR), [0]),
    (queries.list_datacenters, DatacenterFilterSpec(names=some("far", "no")), [1]),
    (queries.list_datacenters, DatacenterFilterSpec(folders=some("group-d1")), [0]),
    (queries.list_clusters, ClusterFilterSpec(clusters=C8), [0]),
    (queries.list_clusters, ClusterFilterSpec(names=some("c9")), [1]),
    (queries.list_clusters, ClusterFilterSpec(folders=some("group-h5")), [1]),
    (queries.list_clusters, ClusterFilterSpec(datacenters=NEAR), [0]),
    (queries.list_folders, FolderFilterSpec(folders=some("group-v3")), [1]),
    (queries.list_folders, FolderFilterSpec(names=some("host", "vm")), [1, 2]),
    (queries.list_folders, FolderFilterSpec(type=FolderType.VIRTUAL_MACHINE), [1]),
    (queries.list_folders, FolderFilterSpec(parent_folders=some("group-d1")), [1, 2]),
    (queries.list_folders, FolderFilterSpec(datacenters=NEAR), [1, 2]),
    (queries.list_hosts, HostFilterSpec(hosts=some("host-12", "host-21")), [1, 3]),
    (queries.list_hosts, HostFilterSpec(names=some("h31")), [4]),
    (queries.list_hosts, HostFilterSpec(folders=some("group-d1")), []),
    (queries.list_hosts, HostFilterSpec(datacenters=FAR), [3]),
    (queries.list_hosts, HostFilterSpec(standalone=True), [4]),
    (queries.list_hosts, HostFilterSpec(standalone=False), [0, 1, 2, 3]),
    (queries.list_hosts, HostFilterSpec(standalone=True, clusters=C8), []),
    (queries.list_hosts, HostFilterSpec(clusters=C8), [0, 1, 2]),
    (
        queries.list_hosts,
        HostFilterSpec(connection_states=some(HostConnectionState.DISCONNECTED)),
        [2],
    ),
    (queries.list_hosts, HostFilterSpec(host_uuids=some("uuid-11")), [0]),
    (queries.list_resource_pools, ResourcePoolFilterSpec(resource_pools=some("resgroup-9")), [0]),
    (queries.list_resource_pools, ResourcePoolFilterSpec(names=some("r10")), [1]),
    (
        queries.list_resource_pools,
        ResourcePoolFilterSpec(parent_resource_pools=some("resgroup-9")),
        [1],
    ),
    (queries.list_resource_pools, ResourcePoolFilterSpec(datacenters=FAR), []),
    (queries.list_resource_pools, ResourcePoolFilterSpec(hosts=some("host-13")), [0, 1]),
    (queries.list_resource_pools, ResourcePoolFilterSpec(hosts=some("host-31")), [2]),
    (queries.list_resource_pools, ResourcePoolFilterSpec(clusters=C8), [0, 1]),
    (queries.list_networks, NetworkFilterSpec(networks=some("network-15")), [1]),
    (queries.list_networks, NetworkFilterSpec(names=some("net network-12")), [0]),
    (
        queries.list_networks,
        NetworkFilterSpec(types=some(InventoryNetworkType.DISTRIBUTED_PORTGROUP)),
        [2],
    ),
    (queries.list_networks, NetworkFilterSpec(folders=some("group-x")), []),
    (queries.list_networks, NetworkFilterSpec(datacenters=FAR), []),
    (queries.list_datastores, DatastoreFilterSpec(datastores=some("datastore-17")), [1]),
    (queries.list_datastores, DatastoreFilterSpec(names=some("ds datastore-14")), [0]),
    (queries.list_datastores, DatastoreFilterSpec(types=some(DatastoreType.NFS)), []),
    (queries.list_datastores, DatastoreFilterSpec(folders=some("group-s5")), [0, 1, 2]),
    (queries.list_datastores, DatastoreFilterSpec(datacenters=FAR), []),
    (queries.list_vms, VmFilterSpec(vms=some("vm-42", "vm-1")), [1]),
    (queries.list_vms, VmFilterSpec(names=some("name vm-41")), [0]),
    (queries.list_vms, VmFilterSpec(folders=some("group-v3")), [0, 1]),
    (queries.list_vms, VmFilterSpec(datacenters=FAR), []),
    (queries.list_vms, VmFilterSpec(hosts=some("host-11")), [0]),
    (queries.list_vms, VmFilterSpec(clusters=C8), [0]),
    (queries.list_vms, VmFilterSpec(resource_pools=some("resgroup-10")), []),
    (queries.list_vms, VmFilterSpec(power_states=some(VmPowerState.POWERED_ON)), [0]),
]


@pytest.mark.parametrize(("query", "spec", "expected"), FILTERS)
def test_each_field_of_a_filter(
    query: Callable[..., list[Any]], spec: Structure, expected: list[int], full: Inventory
) -> None:
    """Each field of each filter selects by its own attribute."""
    assert identifiers(query(full, spec)) == [ALL[query][index] for index in expected]


def test_every_field_is_tried() -> None:
    """Every field of a filter has a case above."""
    used = {(type(spec), name) for _, spec, _ in FILTERS for name in _given(spec)}
    assert used == {
        (kind, name) for kind in {kind for kind, _ in used} for name in kind.__struct_fields__
    }


def _given(spec: Structure) -> list[str]:
    return [name for name in spec.__struct_fields__ if getattr(spec, name) is not None]


def test_fields_together(full: Inventory) -> None:
    """An empty set matches everything; two fields must both match."""
    spec = HostFilterSpec(names=frozenset(), hosts=some("host-11", "host-31"), clusters=C8)
    assert identifiers(queries.list_hosts(full, spec)) == ["host-11"]


@pytest.mark.parametrize("query", ALL)
def test_summaries_can_be_sent(query: Callable[..., list[Any]], full: Inventory) -> None:
    """Every summary is a valid structure of the contract, including its unions."""
    for summary in query(full):
        encoded = encode_rest(type(summary), summary)
        assert encoded["name"] == summary.name


def test_host_power_only_while_connected(full: Inventory) -> None:
    """The contract has a host's power state only while it is connected."""
    by_host = {summary.host: summary.power_state for summary in queries.list_hosts(full)}
    assert by_host["host-11"] is not None
    assert by_host["host-13"] is None


@pytest.mark.parametrize("kind", queries.LISTS)
def test_a_list_has_its_limit(full: Inventory, kind: str) -> None:
    """The maximum number is listed, one more is refused."""
    query, most = queries.LISTS[kind]
    attribute = "vms" if kind == "VM" else f"{kind}s"
    first = getattr(full, attribute)[0]
    entries = [replace(first, id=f"{first.id}-{number}") for number in range(most + 1)]
    just = replace(full, **{attribute: tuple(entries[:-1])})
    assert queries.list_inventory(kind, just, None) == query(just, None)
    over = replace(full, **{attribute: tuple(entries)})
    with pytest.raises(ApiError) as caught:
        queries.list_inventory(kind, over, None)
    assert caught.value.error_type is ErrorType.UNABLE_TO_ALLOCATE_RESOURCE
    assert caught.value.messages[0].args == (str(most),)
