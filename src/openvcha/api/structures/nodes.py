"""Structures of the services below the cluster: active, passive, witness, mode, deployment type."""

from typing import Annotated, ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.structures.vcha import CredentialsSpec, IpSpec, PlacementInfo, PlacementSpec
from openvcha.api.types import Enumeration, Id, Structure


class ActiveInfo(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.active.info"

    management: IpSpec
    ha: IpSpec | None = None
    placement: PlacementInfo | None = None


class DeploymentType(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.deployment_type.type"):
    NONE = "NONE"
    AUTO = "AUTO"
    MANUAL = "MANUAL"


class DeploymentTypeInfo(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.deployment_type.info"

    deployment_type: DeploymentType


class ModeClusterMode(Enumeration, vapi="com.vmware.vcenter.vcha.cluster.mode.cluster_mode"):
    """The same modes again: the mode service has an enumeration of its own."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    MAINTENANCE = "MAINTENANCE"


class ModeInfo(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.mode.info"

    mode: ModeClusterMode


class PassiveCheckSpec(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.check_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec


class PassiveCheckResult(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.check_result"

    warnings: tuple[LocalizableMessage, ...]
    errors: tuple[LocalizableMessage, ...]


class PassiveRedeploySpec(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.passive.redeploy_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec
    ha_ip: IpSpec | None = None
    failover_ip: IpSpec | None = None


class WitnessCheckSpec(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.check_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec


class WitnessCheckResult(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.check_result"

    warnings: tuple[LocalizableMessage, ...]
    errors: tuple[LocalizableMessage, ...]


class WitnessRedeploySpec(Structure):
    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.cluster.witness.redeploy_spec"

    vc_spec: CredentialsSpec | None = None
    placement: PlacementSpec
    ha_ip: IpSpec | None = None


class OperationsInfo(Structure):
    """Which operations cannot be called now, and which run."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.operations.info"

    disabled: frozenset[Annotated[str, Id("com.vmware.vapi.operation")]]
    active: frozenset[Annotated[str, Id("com.vmware.vapi.operation")]]


prepare(__name__)
