"""Identifiers, each with the type of the resource that it identifies."""

from typing import Annotated

from openvcha.api.types import Id

# vCenter qualifies some types by the vCenter that issued the identifier; the SDK has both kinds.
VCENTER = ":VCenter"

DatacenterId = Annotated[str, Id("Datacenter")]
ClusterId = Annotated[str, Id("ClusterComputeResource")]
FolderId = Annotated[str, Id("Folder")]
HostId = Annotated[str, Id("HostSystem")]
ResourcePoolId = Annotated[str, Id("ResourcePool")]
NetworkId = Annotated[str, Id("Network")]
DatastoreId = Annotated[str, Id("Datastore")]
VmId = Annotated[str, Id("VirtualMachine")]

PlacementDatacenterId = Annotated[str, Id("Datacenter" + VCENTER)]
PlacementClusterId = Annotated[str, Id("ClusterComputeResource" + VCENTER)]
PlacementFolderId = Annotated[str, Id("Folder" + VCENTER)]
PlacementHostId = Annotated[str, Id("HostSystem" + VCENTER)]
PlacementResourcePoolId = Annotated[str, Id("ResourcePool" + VCENTER)]
PlacementNetworkId = Annotated[str, Id("Network" + VCENTER)]
PlacementDatastoreId = Annotated[str, Id("Datastore" + VCENTER)]
PlacementVmId = Annotated[str, Id("VirtualMachine" + VCENTER)]

TaskId = Annotated[str, Id("com.vmware.cis.TASK")]
ServiceId = Annotated[str, Id("com.vmware.vapi.service")]
OperationId = Annotated[str, Id("com.vmware.vapi.operation")]
