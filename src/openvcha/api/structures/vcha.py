"""Structures that several services of VCHA share: locations, placements, addresses."""

from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api.structures.ids import (
    PlacementClusterId,
    PlacementDatacenterId,
    PlacementDatastoreId,
    PlacementFolderId,
    PlacementHostId,
    PlacementNetworkId,
    PlacementResourcePoolId,
)
from openvcha.api.types import Enumeration, Structure, Union

BY_FAMILY = Union("ip_family", {"IPV4": {"ipv4": True}, "IPV6": {"ipv6": True}})


class IpFamily(Enumeration, vapi="com.vmware.vcenter.vcha.ip_family"):
    """An address family."""

    IPV4 = "IPV4"
    IPV6 = "IPV6"


class NetworkType(Enumeration, vapi="com.vmware.vcenter.vcha.network_type"):
    """The type of a network that a node is attached to."""

    STANDARD_PORTGROUP = "STANDARD_PORTGROUP"
    DISTRIBUTED_PORTGROUP = "DISTRIBUTED_PORTGROUP"


class CertificateInfo(Structure):
    """The certificate that a server presented: SHA-256 thumbprint and PEM."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.certificate_info"

    ssl_thumbprint: str
    ssl_certificate: str | None = None


class ConnectionSpec(Structure):
    """The address of a vCenter, with a thumbprint or a certificate (PEM), never both."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.connection_spec"

    hostname: str
    port: int | None = None
    ssl_thumbprint: str | None = None
    ssl_certificate: str | None = None
    username: str | None = None
    password: Secret | None = None


class CredentialsSpec(Structure):
    """The connection to the vCenter that manages the active, and its credentials."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.credentials_spec"

    active_location: ConnectionSpec


class DiskSpec(Structure):
    """The datastore of a node; if unset, one is chosen."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.disk_spec"

    datastore: PlacementDatastoreId | None = None


class DiskInfo(Structure):
    """The datastore of a node, with its name."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.disk_info"

    datastore: PlacementDatastoreId
    datastore_name: str


class PlacementSpec(Structure):
    """The wanted placement of a node; a network needs its type, a type alone is ignored."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.placement_spec"

    name: str
    folder: PlacementFolderId
    host: PlacementHostId | None = None
    resource_pool: PlacementResourcePoolId | None = None
    ha_network_type: NetworkType | None = None
    ha_network: PlacementNetworkId | None = None
    management_network_type: NetworkType | None = None
    management_network: PlacementNetworkId | None = None
    storage: DiskSpec | None = None


class PlacementInfo(Structure):
    """The actual placement of a node."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.placement_info"

    management_vcenter_name: str
    management_vcenter_server_guid: str | None = None
    vm_name: str
    datacenter: PlacementDatacenterId
    datacenter_name: str
    host: PlacementHostId
    host_name: str
    cluster: PlacementClusterId | None = None
    cluster_name: str | None = None
    ha_network: PlacementNetworkId | None = None
    ha_network_name: str | None = None
    ha_network_type: NetworkType | None = None
    management_network: PlacementNetworkId
    management_network_name: str
    management_network_type: NetworkType
    storage: DiskInfo
    bios_uuid: str | None = None


class Ipv4Spec(Structure):
    """An IPv4 address; its subnet is set by mask, by prefix, or by both if they agree."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.ipv4_spec"

    address: str
    subnet_mask: str | None = None
    prefix: int | None = None


class Ipv6Spec(Structure):
    """An IPv6 address with its prefix length."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.ipv6_spec"

    address: str
    prefix: int


class IpSpec(Structure):
    """An address of the family that `ip_family` names."""

    vapi: ClassVar[str] = "com.vmware.vcenter.vcha.ip_spec"
    union: ClassVar[Union | None] = BY_FAMILY

    ip_family: IpFamily
    ipv4: Ipv4Spec | None = None
    ipv6: Ipv6Spec | None = None
    default_gateway: str | None = None
    dns_servers: tuple[str, ...] | None = None


prepare(__name__)
