"""The interface to the infrastructure that the nodes run on."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import IpFamily, LocalizableMessage
from openvcha.infrastructure.boot import Boot
from openvcha.infrastructure.inventory import Inventory


class Power(StrEnum):
    """The power of one node. UNKNOWN: its host cannot be reached; it is never taken for OFF."""

    ON = "ON"
    OFF = "OFF"
    GONE = "GONE"
    UNKNOWN = "UNKNOWN"

    @property
    def certainly_off(self) -> bool:
        """Return whether the node cannot be running."""
        return self in {Power.OFF, Power.GONE}


class NodeState(msgspec.Struct, kw_only=True, frozen=True):
    """What an infrastructure knows of one VM now. ``host`` and ``bios_uuid``: empty if GONE.

    ``reason``: why the power is UNKNOWN.
    """

    power: Power
    host: str = ""
    bios_uuid: str = ""
    reason: LocalizableMessage | None = None


class Placement(msgspec.Struct, kw_only=True, frozen=True):
    """A complete placement of a node, in identifiers of the inventory."""

    name: str
    folder: str
    host: str
    resource_pool: str
    datastore: str
    ha_network: str
    management_network: str


class VmRequest(msgspec.Struct, kw_only=True, frozen=True):
    """A request for a VM. ``token`` identifies it: the same one never creates a second VM."""

    placement: Placement
    token: str
    addresses: tuple[str, ...] = ()


class NodeRequest(VmRequest, kw_only=True, frozen=True):
    """A request for a VM that becomes a node.

    It has ``boot`` before it is first powered on; without it, its files are written afterwards.
    """

    boot: Boot | None = None


class Creation(msgspec.Struct, kw_only=True, frozen=True):
    """The creation of a VM as last observed.

    ``id`` is the infrastructure's own. ``vm`` is set once the VM exists, also half made.
    ``fraction`` (0 to 1; None: unknown) and ``text`` are its progress. Only a VM that is ``done``
    may be powered on.
    """

    id: str
    token: str
    vm: str | None = None
    fraction: float | None = None
    text: LocalizableMessage | None = None
    done: bool = False


def unreachable(host: str, reason: object) -> LocalizableMessage:
    """Return the reason why something on a host is unknown or cannot be done."""
    return message("infrastructure.unreachable", host, reason)


class Infrastructure(Protocol):
    """The infrastructure that the nodes run on. All methods are idempotent, even after a crash.

    An unreachable host is a result (UNKNOWN, or False), not an error. Each method raises ApiError
    RESOURCE_INACCESSIBLE while the inventory itself cannot be read, and RESOURCE_BUSY while another
    process holds the VM.
    """

    async def inventory(self, *, power: bool = False) -> Inventory:
        """Return the inventory, which says how old it is; a silent host is NOT_RESPONDING.

        With ``power``, power states are measured now where a host responds; decisions about one
        node use ``node``.
        """
        ...

    async def node(self, vm_id: str) -> NodeState:
        """Return the state of one VM, measured now; UNKNOWN if its host does not respond in 3 s."""
        ...

    async def find(self, token: str) -> Creation | None:
        """Return the creation of this token, also one that is half made; None: nothing exists."""
        ...

    async def begin(self, request: NodeRequest) -> Creation:
        """Begin to create the VM, powered off; for a known token, continue its creation.

        Raises ApiError: ALREADY_EXISTS (name taken), NOT_FOUND (identifier in the request),
        NOT_ALLOWED_IN_CURRENT_STATE (the token's VM is being deleted), RESOURCE_INACCESSIBLE (its
        host cannot be reached).
        """
        ...

    async def observe(self, creation: Creation) -> Creation:
        """Return the progress of a creation. Raises ApiError, the reason, if it has failed.

        A failed creation may leave something behind, which ``find`` returns.
        """
        ...

    async def cancel(self, creation: Creation) -> None:
        """Stop a creation that is not done; then ``find`` returns what is left to delete."""
        ...

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Write files (relative path: content) to a VM that is off, readable only by the VM.

        Raises ApiError: NOT_FOUND, NOT_ALLOWED_IN_CURRENT_STATE, INVALID_ARGUMENT (path),
        RESOURCE_INACCESSIBLE (its host cannot be reached).
        """
        ...

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file's content.

        Raises ApiError: NOT_FOUND, INVALID_ARGUMENT (path), RESOURCE_INACCESSIBLE (its host cannot
        be reached).
        """
        ...

    async def power_on(self, vm_id: str) -> None:
        """Start the VM; return when its supervisor is running. Do nothing if it already is.

        Raises ApiError: NOT_FOUND, ERROR (it ended at once; says why), TIMED_OUT,
        RESOURCE_INACCESSIBLE (its host cannot be reached).
        """
        ...

    async def power_off(self, vm_id: str) -> Power:
        """Cut the power, and return OFF once no process of the VM is left.

        GONE: there is no such VM. UNKNOWN: its host cannot be reached, so it may be running.
        Raises ApiError TIMED_OUT while it is certainly running.
        """
        ...

    async def delete(self, vm_id: str) -> bool:
        """Power off and delete the VM with its data; return True once nothing is left.

        False: its host cannot be reached. The VM stays in the inventory, is never powered on again,
        and the caller owes another call. Raises ApiError or OSError if deleting fails.
        """
        ...

    async def address_in_use(
        self,
        address: str,
        network: str | None = None,
        ignoring: Iterable[str] = (),
        *,
        standing: bool = False,
    ) -> bool:
        """Return whether another VM (not in `ignoring`) or any host uses the address.

        ``network`` is the identifier of the network to search; None: any. With ``standing``, the
        node's machine may have the address already: only a node that listens there uses it.
        """
        ...

    async def lacks_address(self, host: str, address: str) -> bool:
        """Return whether a node on the host could not have the address.

        So it is where nodes use the addresses of their hosts, and nobody has given it to this one.
        """
        ...

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return why nodes cannot use this address family; None when they can."""
        ...

    async def address_obstacle(
        self, host_id: str, interface: str, address: str, helper: str
    ) -> str:
        """Return why no node on a host could hold the public address; empty if one could.

        ``helper`` is the socket of the program that would hold it, on an interface of the host.
        """
        ...

    async def free_bytes(self, datastore: str) -> int:
        """Return the bytes of a datastore that are free for VMs. Raises ApiError: NOT_FOUND."""
        ...


prepare(__name__)
