"""Placement of a node: a spec is checked against the inventory and completed.

Pure. It does not stop at the first finding, so that a user gets all of them at once. From the
request to the VM:

    PlacementSpec    on the wire: what a caller wants, with unset parts
    Placement        from ``resolve``: complete; in the task's record (NewNode), in a VmRequest
    Vm               in the inventory: what was created
    PlacementInfo    on the wire: where the VM is, with names
"""

import ipaddress
import re
from typing import NamedTuple, TypeVar

import msgspec

from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import (
    DiskInfo,
    FolderType,
    HostConnectionState,
    HostPowerState,
    LocalizableMessage,
    NetworkType,
    PlacementInfo,
    PlacementSpec,
)
from openvcha.infrastructure.interface import Placement
from openvcha.infrastructure.inventory import Datastore, Entity, Host, Inventory, Network, Vm

# The name is also used for a directory, in commands and in logs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,78}[A-Za-z0-9_-]|[A-Za-z0-9]", re.ASCII)


EntityT = TypeVar("EntityT", bound=Entity)


class PlacementDefaults(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Values for unset fields, mostly those of the active.

    `used_hosts` are those of the other nodes, `used_datastores` that of the active, which has the
    other copy of the data: both are avoided where possible.
    `token` is the request's own: a VM that it has already created is no conflict.
    """

    resource_pool: str | None = None
    ha_network: str | None = None
    management_network: str | None = None
    used_hosts: frozenset[str] = frozenset()
    used_datastores: frozenset[str] = frozenset()
    token: str | None = None


class Resolution(NamedTuple):
    """The placement (None with errors), and all findings; warnings do not prevent it."""

    placement: Placement | None
    errors: list[LocalizableMessage]
    warnings: list[LocalizableMessage]


def usable_name(name: str) -> bool:
    """Return whether a node may have this name."""
    return NAME.fullmatch(name) is not None


def defaults_from(
    inventory: Inventory, active: Vm, others: tuple[Vm, ...] = (), token: str | None = None
) -> PlacementDefaults:
    """Return the defaults for a node beside `active` and the remaining `others`."""
    neighbours = (active, *others)
    known = inventory.resource_pool(active.resource_pool)
    return PlacementDefaults(
        resource_pool=known.id if known else None,
        ha_network=active.networks.ha,
        management_network=active.networks.management,
        used_hosts=frozenset(vm.host for vm in neighbours),
        used_datastores=frozenset({active.datastore}),
        token=token,
    )


def defaults_around(inventory: Inventory, ha: str, management: str) -> PlacementDefaults:
    """Return the defaults for a node whose active is in no inventory.

    They are the only resource pool, and the only networks that contain the active's address and
    the public one.
    """
    pools = inventory.resource_pools
    return PlacementDefaults(
        resource_pool=pools[0].id if len(pools) == 1 else None,
        ha_network=_network_of(inventory, ha),
        management_network=_network_of(inventory, management),
    )


def _network_of(inventory: Inventory, address: str) -> str | None:
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:  # a host name
        return None
    found = [each.id for each in inventory.networks if wanted in ipaddress.ip_network(each.subnet)]
    return found[0] if len(found) == 1 else None


def resolve(
    spec: PlacementSpec,
    inventory: Inventory,
    defaults: PlacementDefaults,
    need_bytes: int,
    field: str = "spec.placement",
) -> Resolution:
    """Check a placement and choose its unset parts.

    `need_bytes` is the space that the node's data needs, `field` the path of the spec itself.
    """
    return _Resolver(spec, inventory, defaults, need_bytes, field).resolve()


def placement_info(
    vm: Vm, inventory: Inventory, management_vcenter_name: str, guid: str | None = None
) -> PlacementInfo:
    """Return the placement of a VM. Raises LookupError when its parts are unknown."""
    host = _known(inventory.host(vm.host), vm.host)
    datacenter = _known(inventory.datacenter(host.datacenter), host.datacenter)
    cluster = inventory.cluster(host.cluster)
    ha = _known(inventory.network(vm.networks.ha), vm.networks.ha)
    management = _known(inventory.network(vm.networks.management), vm.networks.management)
    datastore = _known(inventory.datastore(vm.datastore), vm.datastore)
    return PlacementInfo(
        management_vcenter_name=management_vcenter_name,
        management_vcenter_server_guid=guid,
        vm_name=vm.name,
        datacenter=datacenter.id,
        datacenter_name=datacenter.name,
        host=host.id,
        host_name=host.name,
        cluster=cluster.id if cluster else None,
        cluster_name=cluster.name if cluster else None,
        ha_network=ha.id,
        ha_network_name=ha.name,
        ha_network_type=NetworkType(ha.type),
        management_network=management.id,
        management_network_name=management.name,
        management_network_type=NetworkType(management.type),
        storage=DiskInfo(datastore=datastore.id, datastore_name=datastore.name),
        bios_uuid=vm.bios_uuid,
    )


class _Resolver:
    """One run of `resolve`: each method checks one thing and adds its findings."""

    def __init__(
        self,
        spec: PlacementSpec,
        inventory: Inventory,
        defaults: PlacementDefaults,
        need_bytes: int,
        field: str,
    ) -> None:
        self.spec = spec
        self.inventory = inventory
        self.defaults = defaults
        self.need_bytes = need_bytes
        self.field = field
        self.errors: list[LocalizableMessage] = []
        self.warnings: list[LocalizableMessage] = []

    def resolve(self) -> Resolution:
        self._check_name()
        self._check_folder()
        pool_hosts = self._pool_hosts()
        ha, management = self._networks()
        wished = self._wished_datastore()
        host = self._host(pool_hosts, [net for net in (ha, management) if net], wished)
        datastore = self._datastore(host, wished)
        pool = self.spec.resource_pool or self.defaults.resource_pool
        if self.errors or not (host and datastore and pool and ha and management):
            return Resolution(None, self.errors, self.warnings)
        placement = Placement(
            name=self.spec.name,
            folder=self.spec.folder,
            host=host.id,
            resource_pool=pool,
            datastore=datastore.id,
            ha_network=ha.id,
            management_network=management.id,
        )
        return Resolution(placement, self.errors, self.warnings)

    def _check_name(self) -> None:
        name = self.spec.name
        if not NAME.fullmatch(name):
            self._error("name.invalid", "name", name)
            return
        taken = self.inventory.vm_by_name(name)
        if taken is not None and taken.token != self.defaults.token:
            self._error("name.taken", "name", name, taken.id)

    def _check_folder(self) -> None:
        folder = self.inventory.folder(self.spec.folder)
        if folder is None:
            self._unknown("folder", self.spec.folder)
        elif folder.type != FolderType.VIRTUAL_MACHINE:
            self._error("folder.type", "folder", folder.id, folder.type)

    def _pool_hosts(self) -> tuple[Host, ...]:
        """Return the hosts of the pool; all hosts if it is unknown, to check the rest."""
        identifier = self.spec.resource_pool or self.defaults.resource_pool
        pool = self.inventory.resource_pool(identifier)
        if pool is not None:
            return self.inventory.hosts_of_pool(pool)
        if identifier is None:
            self._error("unset", "resource_pool")
        else:
            self._unknown("resource_pool", identifier)
        return self.inventory.hosts

    def _networks(self) -> tuple[Network | None, Network | None]:
        spec = self.spec
        ha = self._network(
            "ha_network", spec.ha_network, spec.ha_network_type, self.defaults.ha_network
        )
        management = self._network(
            "management_network",
            spec.management_network,
            spec.management_network_type,
            self.defaults.management_network,
        )
        if ha is not None and ha == management:
            self._error("network.same", "ha_network", ha.id)
        return ha, management

    def _network(
        self, field: str, wished: str | None, kind: NetworkType | None, default: str | None
    ) -> Network | None:
        """Check a network, which needs its type; a type without a network is ignored."""
        if wished is None and default is None:
            self._error("unset", field)
            return None
        network = self.inventory.network(wished or default)
        if wished is not None and kind is None:
            self._error("network.type.missing", f"{field}_type", wished)
        if network is None:
            self._unknown(field, wished or default or "")
        elif wished is not None and kind is not None and kind.value != network.type.value:
            self._error("network.type.mismatch", f"{field}_type", kind, network.id, network.type)
        return network

    def _wished_datastore(self) -> Datastore | None:
        identifier = self.spec.storage.datastore if self.spec.storage else None
        if identifier is None:
            return None
        datastore = self.inventory.datastore(identifier)
        if datastore is None:
            self._unknown("storage.datastore", identifier)
        elif datastore.free_space < self.need_bytes:
            self._no_space(datastore)
        return datastore

    def _host(
        self, pool_hosts: tuple[Host, ...], networks: list[Network], wished: Datastore | None
    ) -> Host | None:
        if self.spec.host is None:
            return self._choose_host(pool_hosts, networks, wished)
        host = self.inventory.host(self.spec.host)
        if host is None:
            self._unknown("host", self.spec.host)
            return None
        if host not in pool_hosts:
            self._error("host.pool", "host", host.id)
        self._check_host(host, networks)
        if wished is not None and wished.id not in host.datastores:
            self._error("datastore.unreachable", "storage.datastore", wished.id, host.id)
        if host.id in self.defaults.used_hosts:
            self._warn("host.shared", "host", host.id)
        return host

    def _check_host(self, host: Host, networks: list[Network]) -> None:
        if host.connection_state != HostConnectionState.CONNECTED:
            self._error("host.disconnected", "host", host.id, host.connection_state)
        elif not _powered_on(host):
            self._error("host.off", "host", host.id)
        if host.maintenance:
            self._error("host.maintenance", "host", host.id)
        for network in networks:
            if network.id not in host.networks:
                self._error("host.network", "host", host.id, network.id)

    def _choose_host(
        self, pool_hosts: tuple[Host, ...], networks: list[Network], wished: Datastore | None
    ) -> Host | None:
        """Choose a host, preferably without another node, then the one with the fewest VMs."""
        fitting = [host for host in pool_hosts if _fits(host, networks, wished)]
        if not fitting:
            self._error("host.none", "host")
            return None
        roomy = [host for host in fitting if wished or self._rooms(host)] or fitting
        chosen = min(roomy, key=self._host_preference)
        if chosen.id in self.defaults.used_hosts:
            self._warn("host.shared.chosen", "host", chosen.id)
        return chosen

    def _host_preference(self, host: Host) -> tuple[bool, int, str]:
        load = sum(vm.host == host.id for vm in self.inventory.vms)
        return host.id in self.defaults.used_hosts, load, host.id

    def _rooms(self, host: Host) -> list[Datastore]:
        return [item for item in self._reached(host) if item.free_space >= self.need_bytes]

    def _reached(self, host: Host) -> list[Datastore]:
        return [item for item in self.inventory.datastores if item.id in host.datastores]

    def _datastore(self, host: Host | None, wished: Datastore | None) -> Datastore | None:
        """Choose a datastore with space, preferably without the other copy, then the emptiest."""
        if wished is not None or host is None:
            return wished
        if self.spec.storage is not None and self.spec.storage.datastore is not None:
            return None
        reached = self._reached(host)
        if not reached:
            self._error("datastore.none", "storage.datastore", host.id)
            return None
        chosen = min(reached, key=self._datastore_preference)
        if chosen.free_space < self.need_bytes:
            self._no_space(chosen)
        return chosen

    def _datastore_preference(self, item: Datastore) -> tuple[bool, bool, int, str]:
        full = item.free_space < self.need_bytes
        shared = item.id in self.defaults.used_datastores
        return full, shared, -item.free_space, item.id

    def _no_space(self, datastore: Datastore) -> None:
        free, need = str(datastore.free_space), str(self.need_bytes)
        self._error("datastore.space", "storage.datastore", datastore.id, free, need)

    def _unknown(self, field: str, identifier: str) -> None:
        self._error("unknown", field, identifier)

    def _error(self, key: str, field: str, *args: str) -> None:
        self.errors.append(_message(key, f"{self.field}.{field}", *args))

    def _warn(self, key: str, field: str, *args: str) -> None:
        self.warnings.append(_message(key, f"{self.field}.{field}", *args))


def _powered_on(host: Host) -> bool:
    return host.power_state == HostPowerState.POWERED_ON


def _fits(host: Host, networks: list[Network], wished: Datastore | None) -> bool:
    return (
        host.connection_state == HostConnectionState.CONNECTED
        and _powered_on(host)
        and not host.maintenance
        and host.networks.issuperset(network.id for network in networks)
        and (wished is None or wished.id in host.datastores)
    )


def _known(entity: EntityT | None, identifier: str) -> EntityT:
    if entity is None:
        raise LookupError(f"{identifier} is not in the inventory")
    return entity


def _message(key: str, *args: str) -> LocalizableMessage:
    return message(f"placement.{key}", *args)


prepare(__name__)
