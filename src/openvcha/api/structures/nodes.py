"""Structures of the services below the cluster: active, passive, witness, mode, deployment type."""

from typing import Annotated, ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.structures.vcha import CredentialsSpec, IpSpec, PlacementInfo, PlacementSpec
from openvcha.api.types import Enumeration, Id, Structure


class ActiveInfo(Structure):
    """Addresses and placement of the active."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.active.info"

    management: IpSpec
    ha: IpSpec | None = None
    placement: PlacementInfo | None = None


class DeploymentType(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.deployment_type.type"):
    """The type of the cluster's deployment. NONE: there is no cluster."""

    NONE = "NONE"
    AUTO = "AUTO"
    MANUAL = "MANUAL"


class DeploymentTypeInfo(Structure):
    """The deployment type."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.deployment_type.info"

    deployment_type: DeploymentType


class ModeClusterMode(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.mode.cluster_mode"):
    """The modes of the mode service, which has its own enumeration."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    MAINTENANCE = "MAINTENANCE"


class ModeInfo(Structure):
    """The cluster's mode."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.mode.info"

    mode: ModeClusterMode


class PassiveCheckSpec(Structure):
    """The placement of a new passive, to be checked."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.check_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec


class PassiveCheckResult(Structure):
    """The reasons why a redeploy would fail (errors) or may cause trouble later (warnings)."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.check_result"

    warnings: tuple[LocalizableMessage, ...]
    errors: tuple[LocalizableMessage, ...]


class PassiveRedeploySpec(Structure):
    """Placement of a new passive; unset addresses are those of the old one."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.redeploy_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec
    ha_ip: IpSpec | None = None
    failover_ip: IpSpec | None = None


class WitnessCheckSpec(Structure):
    """The placement of a new witness, to be checked."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.check_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec


class WitnessCheckResult(Structure):
    """The reasons why a redeploy would fail (errors) or may cause trouble later (warnings)."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.check_result"

    warnings: tuple[LocalizableMessage, ...]
    errors: tuple[LocalizableMessage, ...]


class WitnessRedeploySpec(Structure):
    """Placement of a new witness; an unset address is that of the old one."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.redeploy_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec
    ha_ip: IpSpec | None = None


class OperationsInfo(Structure):
    """The operations that are not allowed now, and those that are running."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.operations.info"

    disabled: frozenset[Annotated[str, Id("com.vmware.vapi.operation")]]
    active: frozenset[Annotated[str, Id("com.vmware.vapi.operation")]]


prepare(__name__)
