"""An inventory without hosts: one datacenter with one cluster, its folders and its pool."""

from dataclasses import dataclass

from openvcha.api.structures import FolderType
from openvcha.infrastructure.inventory import (
    ComputeCluster,
    Datacenter,
    Folder,
    Inventory,
    ResourcePool,
)

DATACENTER = "datacenter-2"
CLUSTER = "domain-c8"
VM_FOLDER = "group-v3"
HOST_FOLDER = "group-h4"
DATASTORE_FOLDER = "group-s5"
NETWORK_FOLDER = "group-n6"
RESOURCE_POOL = "resgroup-9"
ROOT_FOLDER = "group-d1"


@dataclass(frozen=True)
class SkeletonNames:
    """The names of these items."""

    datacenter: str = "Datacenter"
    cluster: str = "Cluster"
    folder: str = "vm"
    resource_pool: str = "Resources"


_NAMES = SkeletonNames()


def skeleton(names: SkeletonNames = _NAMES) -> Inventory:
    """Return the inventory that hosts, networks and datastores are added to."""
    return Inventory(
        datacenters=(Datacenter(id=DATACENTER, name=names.datacenter, folder=ROOT_FOLDER),),
        clusters=(
            ComputeCluster(
                id=CLUSTER, name=names.cluster, datacenter=DATACENTER, folder=HOST_FOLDER
            ),
        ),
        folders=_folders(names),
        resource_pools=(
            ResourcePool(
                id=RESOURCE_POOL, name=names.resource_pool, datacenter=DATACENTER, cluster=CLUSTER
            ),
        ),
    )


def _folders(names: SkeletonNames) -> tuple[Folder, ...]:
    rows = (
        (VM_FOLDER, names.folder, FolderType.VIRTUAL_MACHINE),
        (HOST_FOLDER, "host", FolderType.HOST),
        (DATASTORE_FOLDER, "datastore", FolderType.DATASTORE),
        (NETWORK_FOLDER, "network", FolderType.NETWORK),
    )
    root = Folder(id=ROOT_FOLDER, name="Datacenters", type=FolderType.DATACENTER)
    return root, *(
        Folder(id=identifier, name=name, type=kind, parent=ROOT_FOLDER, datacenter=DATACENTER)
        for identifier, name, kind in rows
    )
