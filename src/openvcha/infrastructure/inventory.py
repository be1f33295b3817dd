"""The inventory of the nodes' infrastructure, as values: no I/O.

An :class:`Inventory` is a snapshot: power states and free space are measured when it is taken;
everything else is configuration.
"""

import ipaddress
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import (
    DatastoreType,
    FolderType,
    HostConnectionState,
    HostPowerState,
    InventoryNetworkType,
    VmPowerState,
)


class Entity(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item with an identifier such as ``host-11`` and a display name."""

    id: str
    name: str


class Datacenter(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A datacenter; ``folder`` is its parent folder."""

    folder: str


class ComputeCluster(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A cluster of hosts."""

    datacenter: str
    folder: str
    ha_enabled: bool = False
    drs_enabled: bool = False


class HostAccess(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How a host is reached by SSH. ``host_key``: its public key, as in ``known_hosts``."""

    address: str
    port: int = 22
    user: str = "openvcha"
    host_key: str = ""


class Host(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A host, with the networks and datastores that it can access.

    ``access`` is unset where no host is reached by SSH; ``interfaces`` has the names of its network
    interfaces, by the networks' identifiers.
    """

    datacenter: str
    folder: str
    uuid: str
    cluster: str | None = None
    networks: frozenset[str] = frozenset()
    datastores: frozenset[str] = frozenset()
    connection_state: HostConnectionState = HostConnectionState.CONNECTED
    power_state: HostPowerState = HostPowerState.POWERED_ON
    maintenance: bool = False
    access: HostAccess | None = None
    interfaces: dict[str, str] = {}


class Folder(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A folder; the root folder has neither parent nor datacenter."""

    type: FolderType
    parent: str | None = None
    datacenter: str | None = None


class ResourcePool(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A resource pool of a cluster, or of one stand-alone host."""

    datacenter: str
    cluster: str | None = None
    host: str | None = None
    parent: str | None = None


class Network(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A network; ``subnet`` in CIDR form, e.g. ``127.83.2.0/24``."""

    type: InventoryNetworkType
    datacenter: str
    folder: str
    subnet: str


class Datastore(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A datastore. Sizes in bytes; ``reserved`` bytes are never counted as free."""

    type: DatastoreType
    datacenter: str
    folder: str
    path: str
    reserved: int = 0
    capacity: int = 0
    free_space: int = 0


class VmNetworks(msgspec.Struct, kw_only=True, frozen=True):
    """Identifiers of the two networks that a node is attached to."""

    ha: str
    management: str


class Vm(Entity, kw_only=True, frozen=True, omit_defaults=True):
    """A VM. ``token`` identifies its creation request; ``deleting``: partly deleted."""

    token: str
    bios_uuid: str
    host: str
    folder: str
    resource_pool: str
    datastore: str
    networks: VmNetworks
    directory: str
    addresses: tuple[str, ...] = ()
    power_state: VmPowerState = VmPowerState.POWERED_OFF
    deleting: bool = False


EntityT = TypeVar("EntityT", bound=Entity)


class Inventory(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """All items; the lookups return None for an unknown identifier.

    ``age``: how many seconds ago its hosts and VMs were like this; 0: now.
    """

    datacenters: tuple[Datacenter, ...] = ()
    clusters: tuple[ComputeCluster, ...] = ()
    hosts: tuple[Host, ...] = ()
    folders: tuple[Folder, ...] = ()
    resource_pools: tuple[ResourcePool, ...] = ()
    networks: tuple[Network, ...] = ()
    datastores: tuple[Datastore, ...] = ()
    vms: tuple[Vm, ...] = ()
    age: float = 0.0

    def datacenter(self, identifier: str | None) -> Datacenter | None:
        """Return the datacenter with this identifier."""
        return _by_id(self.datacenters, identifier)

    def cluster(self, identifier: str | None) -> ComputeCluster | None:
        """Return the cluster with this identifier."""
        return _by_id(self.clusters, identifier)

    def host(self, identifier: str | None) -> Host | None:
        """Return the host with this identifier."""
        return _by_id(self.hosts, identifier)

    def folder(self, identifier: str | None) -> Folder | None:
        """Return the folder with this identifier."""
        return _by_id(self.folders, identifier)

    def resource_pool(self, identifier: str | None) -> ResourcePool | None:
        """Return the resource pool with this identifier."""
        return _by_id(self.resource_pools, identifier)

    def network(self, identifier: str | None) -> Network | None:
        """Return the network with this identifier."""
        return _by_id(self.networks, identifier)

    def datastore(self, identifier: str | None) -> Datastore | None:
        """Return the datastore with this identifier."""
        return _by_id(self.datastores, identifier)

    def vm(self, identifier: str | None) -> Vm | None:
        """Return the VM with this identifier."""
        return _by_id(self.vms, identifier)

    def vm_by_token(self, token: str) -> Vm | None:
        """Return the VM that was created with this token."""
        return next((vm for vm in self.vms if vm.token == token), None)

    def vm_by_name(self, name: str) -> Vm | None:
        """Return the VM of this name; names are unique ignoring case, as in vSphere."""
        folded = name.casefold()
        return next((vm for vm in self.vms if vm.name.casefold() == folded), None)

    def vm_by_address(self, address: str, ignoring: Iterable[str] = ()) -> Vm | None:
        """Return the VM with this address whose identifier is not in `ignoring`.

        A VM that is being deleted has given its address up, maybe to its successor.
        """
        wanted = ipaddress.ip_address(address)
        skipped = frozenset(ignoring)
        for vm in self.vms:
            if (
                vm.id not in skipped
                and not vm.deleting
                and wanted in map(ipaddress.ip_address, vm.addresses)
            ):
                return vm
        return None

    def hosts_of_pool(self, pool: ResourcePool) -> tuple[Host, ...]:
        """Return the hosts on which a resource pool's VMs can run."""
        if pool.cluster is not None:
            return tuple(host for host in self.hosts if host.cluster == pool.cluster)
        return tuple(host for host in self.hosts if host.id == pool.host)


def _by_id(entities: tuple[EntityT, ...], identifier: str | None) -> EntityT | None:
    return next((entity for entity in entities if entity.id == identifier), None)


prepare(__name__)
