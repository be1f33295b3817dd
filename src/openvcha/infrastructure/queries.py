"""The eight inventory lists, and the maximum number of their entries. Pure.

An unset filter field, or an empty set in it, matches everything; a set matches any of its values;
all fields together have to match.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import (
    ClusterFilterSpec,
    ClusterSummary,
    DatacenterFilterSpec,
    DatacenterSummary,
    DatastoreFilterSpec,
    DatastoreSummary,
    FolderFilterSpec,
    FolderSummary,
    HostConnectionState,
    HostFilterSpec,
    HostSummary,
    NetworkFilterSpec,
    NetworkSummary,
    ResourcePoolFilterSpec,
    ResourcePoolSummary,
    VmFilterSpec,
    VmSummary,
)
from openvcha.infrastructure.inventory import Host, Inventory, ResourcePool, Vm


def list_datacenters(
    inventory: Inventory, spec: DatacenterFilterSpec | None = None
) -> list[DatacenterSummary]:
    """Return the datacenters that match ``spec``; all without one."""
    wanted = spec or DatacenterFilterSpec()
    return [
        DatacenterSummary(datacenter=item.id, name=item.name)
        for item in inventory.datacenters
        if _passes(wanted.datacenters, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.folders, item.folder)
    ]


def list_clusters(
    inventory: Inventory, spec: ClusterFilterSpec | None = None
) -> list[ClusterSummary]:
    """Return the clusters that match ``spec``; all without one."""
    wanted = spec or ClusterFilterSpec()
    return [
        ClusterSummary(
            cluster=item.id,
            name=item.name,
            ha_enabled=item.ha_enabled,
            drs_enabled=item.drs_enabled,
        )
        for item in inventory.clusters
        if _passes(wanted.clusters, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.folders, item.folder)
        and _passes(wanted.datacenters, item.datacenter)
    ]


def list_folders(inventory: Inventory, spec: FolderFilterSpec | None = None) -> list[FolderSummary]:
    """Return the folders that match ``spec``; all without one."""
    wanted = spec or FolderFilterSpec()
    return [
        FolderSummary(folder=item.id, name=item.name, type=item.type)
        for item in inventory.folders
        if _passes(wanted.folders, item.id)
        and _passes(wanted.names, item.name)
        and wanted.type in (None, item.type)
        and _passes(wanted.parent_folders, item.parent)
        and _passes(wanted.datacenters, item.datacenter)
    ]


def list_hosts(inventory: Inventory, spec: HostFilterSpec | None = None) -> list[HostSummary]:
    """Return the hosts that match ``spec``; all without one."""
    wanted = spec or HostFilterSpec()
    return [
        _host_summary(item)
        for item in inventory.hosts
        if _passes(wanted.hosts, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.folders, item.folder)
        and _passes(wanted.datacenters, item.datacenter)
        and wanted.standalone in (None, item.cluster is None)
        and _passes(wanted.clusters, item.cluster)
        and _passes(wanted.connection_states, item.connection_state)
        and _passes(wanted.host_uuids, item.uuid)
    ]


def list_resource_pools(
    inventory: Inventory, spec: ResourcePoolFilterSpec | None = None
) -> list[ResourcePoolSummary]:
    """Return the resource pools that match ``spec``; all without one."""
    wanted = spec or ResourcePoolFilterSpec()
    return [
        ResourcePoolSummary(resource_pool=item.id, name=item.name)
        for item in inventory.resource_pools
        if _passes(wanted.resource_pools, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.parent_resource_pools, item.parent)
        and _passes(wanted.datacenters, item.datacenter)
        and _overlaps(wanted.hosts, _host_ids(inventory, item))
        and _passes(wanted.clusters, item.cluster)
    ]


def list_networks(
    inventory: Inventory, spec: NetworkFilterSpec | None = None
) -> list[NetworkSummary]:
    """Return the networks that match ``spec``; all without one."""
    wanted = spec or NetworkFilterSpec()
    return [
        NetworkSummary(network=item.id, name=item.name, type=item.type)
        for item in inventory.networks
        if _passes(wanted.networks, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.types, item.type)
        and _passes(wanted.folders, item.folder)
        and _passes(wanted.datacenters, item.datacenter)
    ]


def list_datastores(
    inventory: Inventory, spec: DatastoreFilterSpec | None = None
) -> list[DatastoreSummary]:
    """Return the datastores that match ``spec``; all without one."""
    wanted = spec or DatastoreFilterSpec()
    return [
        DatastoreSummary(
            datastore=item.id,
            name=item.name,
            type=item.type,
            free_space=item.free_space,
            capacity=item.capacity,
        )
        for item in inventory.datastores
        if _passes(wanted.datastores, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.types, item.type)
        and _passes(wanted.folders, item.folder)
        and _passes(wanted.datacenters, item.datacenter)
    ]


def list_vms(inventory: Inventory, spec: VmFilterSpec | None = None) -> list[VmSummary]:
    """Return the VMs that match ``spec``; all without one."""
    wanted = spec or VmFilterSpec()
    return [
        VmSummary(vm=item.id, name=item.name, power_state=item.power_state)
        for item in inventory.vms
        if _passes(wanted.vms, item.id)
        and _passes(wanted.names, item.name)
        and _passes(wanted.folders, item.folder)
        and _passes(wanted.datacenters, _datacenter_of(inventory, item))
        and _passes(wanted.hosts, item.host)
        and _passes(wanted.clusters, _cluster_of(inventory, item))
        and _passes(wanted.resource_pools, item.resource_pool)
        and _passes(wanted.power_states, item.power_state)
    ]


Query = Callable[[Inventory, Any], list[Any]]

#: The query of each kind, and the most entries that it returns: vCenter's limits.
LISTS: Mapping[str, tuple[Query, int]] = MappingProxyType(
    {
        "datacenter": (list_datacenters, 1000),
        "cluster": (list_clusters, 1000),
        "folder": (list_folders, 1000),
        "host": (list_hosts, 2500),
        "resource_pool": (list_resource_pools, 1000),
        "network": (list_networks, 1000),
        "datastore": (list_datastores, 2500),
        "VM": (list_vms, 4000),
    }
)


def list_inventory(kind: str, inventory: Inventory, spec: Any) -> list[Any]:
    """Return the items of a kind. Raises ApiError UNABLE_TO_ALLOCATE_RESOURCE for too many."""
    query, most = LISTS[kind]
    found = query(inventory, spec)
    if len(found) > most:
        fail(ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, message("inventory.too.many", most))
    return found


def _host_summary(host: Host) -> HostSummary:
    """Return a host's summary; its power state is known only while it is connected."""
    connected = host.connection_state == HostConnectionState.CONNECTED
    return HostSummary(
        host=host.id,
        name=host.name,
        connection_state=host.connection_state,
        power_state=host.power_state if connected else None,
        host_uuid=host.uuid,
    )


def _host_ids(inventory: Inventory, pool: ResourcePool) -> frozenset[str]:
    return frozenset(host.id for host in inventory.hosts_of_pool(pool))


def _datacenter_of(inventory: Inventory, vm: Vm) -> str | None:
    host = inventory.host(vm.host)
    return host.datacenter if host else None


def _cluster_of(inventory: Inventory, vm: Vm) -> str | None:
    host = inventory.host(vm.host)
    return host.cluster if host else None


def _passes(wanted: AbstractSet[str] | None, value: str | None) -> bool:
    """Return whether the value is wanted; an empty set matches any value."""
    return not wanted or value in wanted


def _overlaps(wanted: frozenset[str] | None, values: frozenset[str]) -> bool:
    return not wanted or bool(wanted & values)
