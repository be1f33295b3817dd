"""What the cluster asks of whatever its nodes live on."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import IpFamily, LocalizableMessage
from openvcha.infrastructure.inventory import Inventory, Vm


class Placement(msgspec.Struct, kw_only=True, frozen=True):
    """Where a node is to live, with nothing left open; identifiers of the inventory."""

    name: str
    folder: str
    host: str
    resource_pool: str
    datastore: str
    ha_network: str
    management_network: str


class VmRequest(Placement, kw_only=True, frozen=True):
    """A VM that is wanted at a placement.

    `token` is the creator's name for this request: the same token never makes a second VM.
    """

    token: str
    addresses: tuple[str, ...] = ()


def request_at(placement: Placement, token: str, addresses: tuple[str, ...] = ()) -> VmRequest:
    """Return the request for a VM that lives there."""
    return VmRequest(token=token, addresses=addresses, **msgspec.structs.asdict(placement))


class Infrastructure(Protocol):
    """Where nodes live. All methods may be called again after a crash; they finish the work."""

    async def inventory(self) -> Inventory:
        """Take a picture of everything there is, power states and free space measured now."""
        ...

    async def places(self) -> Inventory:
        """Return the same without a look at the VMs' power: what it says of that is void."""
        ...

    async def vm_by_token(self, token: str) -> Vm | None:
        """Return the VM that `create_vm` made for this token, if any."""
        ...

    async def create_vm(self, request: VmRequest) -> Vm:
        """Make the VM, powered off; with a token that was used before, answer that VM.

        Raises ApiError: ALREADY_EXISTS (name taken), NOT_FOUND (identifier of the request),
        NOT_ALLOWED_IN_CURRENT_STATE (the token's VM is being deleted).
        """
        ...

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Put files (relative path: content) into a VM that is powered off, readable by it only.

        Raises ApiError: NOT_FOUND, NOT_ALLOWED_IN_CURRENT_STATE, INVALID_ARGUMENT (path).
        """
        ...

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file's content. Raises ApiError: NOT_FOUND, INVALID_ARGUMENT (path)."""
        ...

    async def power_on(self, vm_id: str) -> None:
        """Start the VM and return when its supervisor lives; nothing to do when it does.

        Raises ApiError: NOT_FOUND, ERROR (it died at once; says why), TIMED_OUT.
        """
        ...

    async def power_off(self, vm_id: str) -> None:
        """Cut the power: return when no process of the VM is left.

        Raises ApiError: NOT_FOUND, TIMED_OUT.
        """
        ...

    async def delete_vm(self, vm_id: str) -> None:
        """Power off and delete the VM with its data; nothing to do when it is gone."""
        ...

    async def address_in_use(self, address: str, ignoring: Iterable[str] = ()) -> bool:
        """Whether the address belongs to a VM (other than `ignoring`, ids) or someone uses it."""
        ...

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return why nodes cannot have addresses of this family; None when they can."""
        ...

    async def free_bytes(self, datastore: str) -> int:
        """Return the bytes free for new VMs on a datastore. Raises ApiError: NOT_FOUND."""
        ...


prepare(__name__)
