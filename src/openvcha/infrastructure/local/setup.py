"""The initial inventory of a local infrastructure."""

import ipaddress
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import DatastoreType, InventoryNetworkType
from openvcha.infrastructure.inventory import Datastore, Host, Network
from openvcha.infrastructure.skeleton import (
    CLUSTER,
    DATACENTER,
    DATASTORE_FOLDER,
    HOST_FOLDER,
    NETWORK_FOLDER,
    SkeletonNames,
    skeleton,
)
from openvcha.infrastructure.state import State

_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
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
            datacenter=DATACENTER,
            cluster=CLUSTER,
            folder=HOST_FOLDER,
            networks=frozenset(network.id for network in networks),
            datastores=frozenset(datastore.id for datastore in datastores),
        )
        for number, name in enumerate(names.hosts, start=11)
    )
    kinds = SkeletonNames(names.datacenter, names.cluster, names.folder, names.resource_pool)
    inventory = replace(skeleton(kinds), hosts=hosts, networks=networks, datastores=datastores)
    return State(next_number=_FIRST_VM, inventory=inventory)


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
            datacenter=DATACENTER,
            folder=NETWORK_FOLDER,
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
            datacenter=DATACENTER,
            folder=DATASTORE_FOLDER,
            path=f"datastores/{identifier}",
        )
        for identifier, name in zip(("datastore-14", "datastore-17"), names.datastores, strict=True)
    )
