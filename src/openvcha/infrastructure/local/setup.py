"""The initial inventory of a local infrastructure."""

import ipaddress
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import DatastoreType, FolderType, InventoryNetworkType
from openvcha.infrastructure.inventory import (
    ComputeCluster,
    Datacenter,
    Datastore,
    Folder,
    Host,
    Inventory,
    Network,
    ResourcePool,
)
from openvcha.infrastructure.local.state import State

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_DATACENTER = "datacenter-2"
_CLUSTER = "domain-c8"
_FIRST_VM = 42


@dataclass(frozen=True)
class Names:
    """The names of the inventory's items."""

    datacenter: str = "Datacenter"
    cluster: str = "Cluster"
    hosts: tuple[str, str, str] = ("host-a.local", "host-b.local", "host-c.local")
    folder: str = "vm"
    resource_pool: str = "Resources"
    datastores: tuple[str, str] = ("datastore-a", "datastore-b")
    management_network: str = "Management"
    ha_network: str = "HA"


def first_state(
    management_subnet: str,
    ha_subnet: str,
    names: Names,
    new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
) -> State:
    """Return the initial state. Raises ApiError INVALID_ARGUMENT for unusable subnets."""
    _check_subnets(management_subnet, ha_subnet)
    networks = _networks(management_subnet, ha_subnet, names)
    datastores = _datastores(names)
    hosts = tuple(
        Host(
            id=f"host-{number}",
            name=name,
            uuid=str(new_uuid()),
            datacenter=_DATACENTER,
            cluster=_CLUSTER,
            folder="group-h4",
            networks=frozenset(network.id for network in networks),
            datastores=frozenset(datastore.id for datastore in datastores),
        )
        for number, name in enumerate(names.hosts, start=11)
    )
    inventory = Inventory(
        datacenters=(Datacenter(id=_DATACENTER, name=names.datacenter, folder="group-d1"),),
        clusters=(
            ComputeCluster(
                id=_CLUSTER, name=names.cluster, datacenter=_DATACENTER, folder="group-h4"
            ),
        ),
        hosts=hosts,
        folders=_folders(names),
        resource_pools=(
            ResourcePool(
                id="resgroup-9", name=names.resource_pool, datacenter=_DATACENTER, cluster=_CLUSTER
            ),
        ),
        networks=networks,
        datastores=datastores,
    )
    return State(next_vm=_FIRST_VM, inventory=inventory)


def _check_subnets(management_subnet: str, ha_subnet: str) -> None:
    try:
        management = ipaddress.IPv4Network(management_subnet)
        ha = ipaddress.IPv4Network(ha_subnet)
    except ValueError:
        usable = False
    else:
        usable = not management.overlaps(ha) and all(
            subnet.subnet_of(_LOOPBACK) and subnet.num_addresses >= 4 for subnet in (management, ha)
        )
    if not usable:
        fail(
            ErrorType.INVALID_ARGUMENT,
            message("infrastructure.subnets", management_subnet, ha_subnet),
        )


def _networks(management_subnet: str, ha_subnet: str, names: Names) -> tuple[Network, ...]:
    standard = InventoryNetworkType.STANDARD_PORTGROUP
    distributed = InventoryNetworkType.DISTRIBUTED_PORTGROUP
    rows = (
        ("network-12", names.management_network, standard, management_subnet),
        ("dvportgroup-13", f"{names.management_network} (dvs)", distributed, management_subnet),
        ("network-15", names.ha_network, standard, ha_subnet),
        ("dvportgroup-16", f"{names.ha_network} (dvs)", distributed, ha_subnet),
    )
    return tuple(
        Network(
            id=identifier,
            name=name,
            type=kind,
            datacenter=_DATACENTER,
            folder="group-n6",
            subnet=subnet,
        )
        for identifier, name, kind, subnet in rows
    )


def _datastores(names: Names) -> tuple[Datastore, ...]:
    return tuple(
        Datastore(
            id=identifier,
            name=name,
            type=DatastoreType.VMFS,
            datacenter=_DATACENTER,
            folder="group-s5",
            path=f"datastores/{identifier}",
        )
        for identifier, name in zip(("datastore-14", "datastore-17"), names.datastores, strict=True)
    )


def _folders(names: Names) -> tuple[Folder, ...]:
    rows = (
        ("group-v3", names.folder, FolderType.VIRTUAL_MACHINE),
        ("group-h4", "host", FolderType.HOST),
        ("group-s5", "datastore", FolderType.DATASTORE),
        ("group-n6", "network", FolderType.NETWORK),
    )
    root = Folder(id="group-d1", name="Datacenters", type=FolderType.DATACENTER)
    return root, *(
        Folder(id=identifier, name=name, type=kind, parent="group-d1", datacenter=_DATACENTER)
        for identifier, name, kind in rows
    )
