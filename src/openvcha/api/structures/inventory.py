"""Structures of the inventory lists: a summary and a filter for each resource type."""

from typing import ClassVar

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import (
    ClusterId,
    DatacenterId,
    DatastoreId,
    FolderId,
    HostId,
    NetworkId,
    ResourcePoolId,
    VmId,
)
from openvcha.api.types import Enumeration, Structure, Union


class FolderType(Enumeration, vapi="com.vmware.vcenter.folder.type"):
    """The type of resource that a folder contains."""

    DATACENTER = "DATACENTER"
    DATASTORE = "DATASTORE"
    HOST = "HOST"
    NETWORK = "NETWORK"
    VIRTUAL_MACHINE = "VIRTUAL_MACHINE"


class HostConnectionState(Enumeration, vapi="com.vmware.vcenter.host.connection_state"):
    """The connection state of a host."""

    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    NOT_RESPONDING = "NOT_RESPONDING"


class HostPowerState(Enumeration, vapi="com.vmware.vcenter.host.power_state"):
    """The power state of a host."""

    POWERED_ON = "POWERED_ON"
    POWERED_OFF = "POWERED_OFF"
    STANDBY = "STANDBY"


class InventoryNetworkType(Enumeration, vapi="com.vmware.vcenter.network.type"):
    """The type of a network in the inventory."""

    STANDARD_PORTGROUP = "STANDARD_PORTGROUP"
    DISTRIBUTED_PORTGROUP = "DISTRIBUTED_PORTGROUP"
    OPAQUE_NETWORK = "OPAQUE_NETWORK"


class DatastoreType(Enumeration, vapi="com.vmware.vcenter.datastore.type"):
    """The type of a datastore."""

    VMFS = "VMFS"
    NFS = "NFS"
    NFS41 = "NFS41"
    CIFS = "CIFS"
    VSAN = "VSAN"
    VFFS = "VFFS"
    VVOL = "VVOL"


class VmPowerState(Enumeration, vapi="com.vmware.vcenter.vm.power.state"):
    """The power state of a VM."""

    POWERED_OFF = "POWERED_OFF"
    POWERED_ON = "POWERED_ON"
    SUSPENDED = "SUSPENDED"


class DatacenterFilterSpec(Structure):
    """The datacenters to list; each set that is present must match, as in all filters here."""

    vapi: ClassVar[str] = "com.vmware.vcenter.datacenter.filter_spec"

    datacenters: frozenset[DatacenterId] | None = None
    names: frozenset[str] | None = None
    folders: frozenset[FolderId] | None = None


class DatacenterSummary(Structure):
    """A datacenter."""

    vapi: ClassVar[str] = "com.vmware.vcenter.datacenter.summary"

    datacenter: DatacenterId
    name: str


class ClusterFilterSpec(Structure):
    """The clusters to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.cluster.filter_spec"

    clusters: frozenset[ClusterId] | None = None
    names: frozenset[str] | None = None
    folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None


class ClusterSummary(Structure):
    """A cluster of hosts."""

    vapi: ClassVar[str] = "com.vmware.vcenter.cluster.summary"

    cluster: ClusterId
    name: str
    ha_enabled: bool
    drs_enabled: bool


class FolderFilterSpec(Structure):
    """The folders to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.folder.filter_spec"

    folders: frozenset[FolderId] | None = None
    names: frozenset[str] | None = None
    type: FolderType | None = None
    parent_folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None


class FolderSummary(Structure):
    """A folder."""

    vapi: ClassVar[str] = "com.vmware.vcenter.folder.summary"

    folder: FolderId
    name: str
    type: FolderType


class HostFilterSpec(Structure):
    """The hosts to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.host.filter_spec"

    hosts: frozenset[HostId] | None = None
    names: frozenset[str] | None = None
    folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None
    standalone: bool | None = None
    clusters: frozenset[ClusterId] | None = None
    connection_states: frozenset[HostConnectionState] | None = None
    host_uuids: frozenset[str] | None = None


class HostSummary(Structure):
    """A host; its power state is known only while it is connected."""

    vapi: ClassVar[str] = "com.vmware.vcenter.host.summary"
    union: ClassVar[Union | None] = Union(
        "connection_state",
        {"CONNECTED": {"power_state": True}, "DISCONNECTED": {}, "NOT_RESPONDING": {}},
    )

    host: HostId
    name: str
    connection_state: HostConnectionState
    power_state: HostPowerState | None = None
    host_uuid: str | None = None


class ResourcePoolFilterSpec(Structure):
    """The resource pools to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.resource_pool.filter_spec"

    resource_pools: frozenset[ResourcePoolId] | None = None
    names: frozenset[str] | None = None
    parent_resource_pools: frozenset[ResourcePoolId] | None = None
    datacenters: frozenset[DatacenterId] | None = None
    hosts: frozenset[HostId] | None = None
    clusters: frozenset[ClusterId] | None = None


class ResourcePoolSummary(Structure):
    """A resource pool."""

    vapi: ClassVar[str] = "com.vmware.vcenter.resource_pool.summary"

    resource_pool: ResourcePoolId
    name: str


class NetworkFilterSpec(Structure):
    """The networks to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.network.filter_spec"

    networks: frozenset[NetworkId] | None = None
    names: frozenset[str] | None = None
    types: frozenset[InventoryNetworkType] | None = None
    folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None


class NetworkSummary(Structure):
    """A network."""

    vapi: ClassVar[str] = "com.vmware.vcenter.network.summary"

    network: NetworkId
    name: str
    type: InventoryNetworkType


class DatastoreFilterSpec(Structure):
    """The datastores to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.datastore.filter_spec"

    datastores: frozenset[DatastoreId] | None = None
    names: frozenset[str] | None = None
    types: frozenset[DatastoreType] | None = None
    folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None


class DatastoreSummary(Structure):
    """A datastore; sizes are in bytes."""

    vapi: ClassVar[str] = "com.vmware.vcenter.datastore.summary"

    datastore: DatastoreId
    name: str
    type: DatastoreType
    free_space: int | None = None
    capacity: int | None = None


class VmFilterSpec(Structure):
    """The VMs to list."""

    vapi: ClassVar[str] = "com.vmware.vcenter.VM.filter_spec"

    vms: frozenset[VmId] | None = None
    names: frozenset[str] | None = None
    folders: frozenset[FolderId] | None = None
    datacenters: frozenset[DatacenterId] | None = None
    hosts: frozenset[HostId] | None = None
    clusters: frozenset[ClusterId] | None = None
    resource_pools: frozenset[ResourcePoolId] | None = None
    power_states: frozenset[VmPowerState] | None = None


class VmSummary(Structure):
    """A VM; its memory is in MiB."""

    vapi: ClassVar[str] = "com.vmware.vcenter.VM.summary"

    vm: VmId
    name: str
    power_state: VmPowerState
    cpu_count: int | None = None
    memory_size_mib: int | None = msgspec.field(name="memory_size_MiB", default=None)


prepare(__name__)
