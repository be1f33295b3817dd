"""Structures of the cluster service."""

from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import PlacementNetworkId, PlacementVmId
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.structures.vcha import (
    BY_FAMILY,
    CredentialsSpec,
    IpSpec,
    NetworkType,
    PlacementInfo,
    PlacementSpec,
)
from openvcha.api.types import Enumeration, Structure, Union


class ClusterMode(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.cluster_mode"):
    """The mode of the cluster, as `ClusterInfo` reports it."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    MAINTENANCE = "MAINTENANCE"


class ClusterState(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.cluster_state"):
    """The health of the cluster. HEALTHY: all nodes connected, the passive in sync."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    ISOLATED = "ISOLATED"


class ConfigState(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.config_state"):
    """The configuration state of the cluster. PREPARED: manual nodes have yet to join."""

    CONFIGURED = "CONFIGURED"
    NOTCONFIGURED = "NOTCONFIGURED"
    INVALID = "INVALID"
    PREPARED = "PREPARED"


class NodeState(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.node_state"):
    """The reachability of a node."""

    UP = "UP"
    DOWN = "DOWN"


class NodeRole(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.node_role"):
    """The role of a node."""

    ACTIVE = "ACTIVE"
    PASSIVE = "PASSIVE"
    WITNESS = "WITNESS"


class DeployType(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.type"):
    """The creator of the nodes: this service (AUTO) or an administrator (MANUAL)."""

    AUTO = "AUTO"
    MANUAL = "MANUAL"


class ClusterIpFamily(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.ip_family"):
    """The address families of `IpInfo`, which has its own enumeration."""

    IPV4 = "IPV4"
    IPV6 = "IPV6"


class Ipv4Info(Structure):
    """An IPv4 address with its subnet."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.ipv4_info"

    address: str
    subnet_mask: str
    prefix: int | None = None


class Ipv6Info(Structure):
    """An IPv6 address with its prefix length."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.ipv6_info"

    address: str
    prefix: int


class IpInfo(Structure):
    """An address of the family that `ip_family` names."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.ip_info"
    union: ClassVar[Union | None] = BY_FAMILY

    ip_family: ClusterIpFamily
    ipv4: Ipv4Info | None = None
    ipv6: Ipv6Info | None = None
    gateway_ip: str | None = None


class NodeRuntimeInfo(Structure):
    """State, role and placement of a node; unknown fields are unset."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.node_runtime_info"

    state: NodeState | None = None
    role: NodeRole | None = None
    placement: PlacementInfo | None = None


class NodeInfo(Structure):
    """A data node; `runtime` shows whether it is the active or the passive."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.node_info"

    failover_ip: IpInfo | None = None
    ha_ip: IpInfo
    runtime: NodeRuntimeInfo | None = None


class WitnessInfo(Structure):
    """The witness."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness_info"

    ha_ip: IpInfo
    runtime: NodeRuntimeInfo | None = None


class ErrorCondition(Structure):
    """A fault or a warning, with the recommended action, if any."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.error_condition"

    error: LocalizableMessage
    recommendation: LocalizableMessage | None = None


class ClusterInfo(Structure):
    """The complete state of the cluster; a healthy one has no exceptions or warnings."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.info"

    config_state: ConfigState | None = None
    node1: NodeInfo | None = None
    node2: NodeInfo | None = None
    witness: WitnessInfo | None = None
    mode: ClusterMode | None = None
    health_state: ClusterState | None = None
    health_exception: tuple[LocalizableMessage, ...] | None = None
    health_warnings: tuple[ErrorCondition, ...] | None = None
    manual_failover_allowed: bool | None = None
    auto_failover_allowed: bool | None = None


class ActiveSpec(Structure):
    """The HA network and HA address of the active, for a deployment."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.active_spec"

    ha_network_type: NetworkType | None = None
    ha_network: PlacementNetworkId | None = None
    ha_ip: IpSpec


class PassiveSpec(Structure):
    """Placement and addresses of the passive; a MANUAL one has no placement."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive_spec"

    placement: PlacementSpec | None = None
    ha_ip: IpSpec
    failover_ip: IpSpec | None = None


class WitnessSpec(Structure):
    """Placement and HA address of the witness; a MANUAL one has no placement."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness_spec"

    placement: PlacementSpec | None = None
    ha_ip: IpSpec


class DeploySpec(Structure):
    """A cluster to deploy; with `vc_spec` unset, it manages itself."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.deploy_spec"

    vc_spec: CredentialsSpec | None = None
    deployment: DeployType
    active: ActiveSpec
    passive: PassiveSpec
    witness: WitnessSpec


class NodeVmInfo(Structure):
    """A VM, by its id and its BIOS UUID."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.node_vm_info"

    vm: PlacementVmId
    bios_uuid: str


class VmInfo(Structure):
    """The VMs of passive and witness."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.vm_info"

    passive: NodeVmInfo
    witness: NodeVmInfo


class UndeploySpec(Structure):
    """The handling of the other nodes' VMs: see `force_delete`, then `vms`."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.undeploy_spec"

    vc_spec: CredentialsSpec | None = None
    force_delete: bool | None = None
    vms: VmInfo | None = None


prepare(__name__)
