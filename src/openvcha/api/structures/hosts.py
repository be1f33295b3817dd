"""Structures for the hosts of the cluster's own inventory. Our own, not the SDK's."""

from typing import ClassVar

from openvcha.api.prepared import prepare
from openvcha.api.structures.ids import DatastoreId, HostId, NetworkId
from openvcha.api.structures.inventory import HostConnectionState
from openvcha.api.types import Structure


class HostNetworkSpec(Structure):
    """An interface of a host, and the subnet (CIDR) that it reaches; the same for all its hosts."""

    vapi: ClassVar[str] = "org.openvcha.hosts.network_spec"

    interface: str
    subnet: str


class HostAddSpec(Structure):
    """A Linux host that is reached by SSH.

    `host_key` is its public key, type and base64. `datastores` are directories that exist there.
    """

    vapi: ClassVar[str] = "org.openvcha.hosts.add_spec"

    name: str
    address: str
    host_key: str
    port: int | None = None
    user: str | None = None
    datastores: tuple[str, ...] = ()
    networks: tuple[HostNetworkSpec, ...] = ()


class HostSetSpec(Structure):
    """Changes of a host; what is unset stays."""

    vapi: ClassVar[str] = "org.openvcha.hosts.set_spec"

    host: HostId
    address: str | None = None
    host_key: str | None = None
    port: int | None = None
    user: str | None = None
    maintenance: bool | None = None


class HostRemoveSpec(Structure):
    """The host to remove. `abandon`: also if virtual machines are still to be deleted there."""

    vapi: ClassVar[str] = "org.openvcha.hosts.remove_spec"

    host: HostId
    abandon: bool | None = None


class HostNetworkInfo(Structure):
    """A network that a host reaches, and by which interface."""

    vapi: ClassVar[str] = "org.openvcha.hosts.network_info"

    network: NetworkId
    interface: str
    subnet: str


class HostDatastoreInfo(Structure):
    """A directory of a host that holds nodes."""

    vapi: ClassVar[str] = "org.openvcha.hosts.datastore_info"

    datastore: DatastoreId
    path: str


class HostInfo(Structure):
    """A host, how it is reached, and what it has. `fingerprint` is that of its host key."""

    vapi: ClassVar[str] = "org.openvcha.hosts.info"

    host: HostId
    name: str
    address: str
    port: int
    user: str
    fingerprint: str
    maintenance: bool
    connection_state: HostConnectionState
    datastores: tuple[HostDatastoreInfo, ...]
    networks: tuple[HostNetworkInfo, ...]


prepare(__name__)
