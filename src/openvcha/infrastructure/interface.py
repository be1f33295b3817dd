"""The interface to the infrastructure that the nodes run on."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import IpFamily, LocalizableMessage
from openvcha.infrastructure.inventory import Inventory, Vm


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


class Infrastructure(Protocol):
    """The infrastructure that the nodes run on. All methods are idempotent, even after a crash."""

    async def inventory(self) -> Inventory:
        """Return the inventory; power states and free space are measured now."""
        ...

    async def inventory_without_power(self) -> Inventory:
        """Return the inventory with power states that are not measured."""
        ...

    async def vm_by_token(self, token: str) -> Vm | None:
        """Return the VM that `create_vm` created for this token, if any."""
        ...

    async def create_vm(self, request: VmRequest) -> Vm:
        """Create the VM, powered off; for a known token, return its VM.

        Raises ApiError: ALREADY_EXISTS (name taken), NOT_FOUND (identifier in the request),
        NOT_ALLOWED_IN_CURRENT_STATE (the token's VM is being deleted).
        """
        ...

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Write files (relative path: content) to a VM that is off, readable only by the VM.

        Raises ApiError: NOT_FOUND, NOT_ALLOWED_IN_CURRENT_STATE, INVALID_ARGUMENT (path).
        """
        ...

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file's content. Raises ApiError: NOT_FOUND, INVALID_ARGUMENT (path)."""
        ...

    async def power_on(self, vm_id: str) -> None:
        """Start the VM; return when its supervisor is running. Do nothing if it already is.

        Raises ApiError: NOT_FOUND, ERROR (it ended at once; says why), TIMED_OUT.
        """
        ...

    async def power_off(self, vm_id: str) -> None:
        """Cut the power; return when no process of the VM is left.

        Raises ApiError: NOT_FOUND, TIMED_OUT.
        """
        ...

    async def delete_vm(self, vm_id: str) -> None:
        """Power off and delete the VM with its data. Do nothing if it does not exist."""
        ...

    async def address_in_use(self, address: str, ignoring: Iterable[str] = ()) -> bool:
        """Return whether another VM (not in `ignoring`) or any host uses the address."""
        ...

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return why nodes cannot use this address family; None when they can."""
        ...

    async def free_bytes(self, datastore: str) -> int:
        """Return the bytes of a datastore that are free for VMs. Raises ApiError: NOT_FOUND."""
        ...


prepare(__name__)
