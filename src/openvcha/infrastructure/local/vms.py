"""Changes of the local inventory, as pure functions from one state to the next."""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import NoReturn, TypeVar

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import HostConnectionState
from openvcha.infrastructure.interface import Placement, VmRequest
from openvcha.infrastructure.inventory import Datastore, Entity, Host, Inventory, Vm, VmNetworks
from openvcha.infrastructure.local.state import State

EntityT = TypeVar("EntityT", bound=Entity)


def add_vm(state: State, root: Path, request: VmRequest, bios_uuid: str) -> tuple[State, Vm]:
    """Return the state with the requested VM, or with the existing one of this token.

    Raises ApiError like `Infrastructure.begin`.
    """
    inventory = state.inventory
    made = inventory.vm_by_token(request.token)
    if made is not None and made.deleting:
        fail_deleting(made)
    if made is not None:
        return state, made
    place = request.placement
    datastore = _check_placement(inventory, place)
    directory = PurePath(datastore.path) / place.name
    _check_directory(root / directory)
    vm = Vm(
        id=f"vm-{state.next_vm}",
        name=place.name,
        token=request.token,
        bios_uuid=bios_uuid,
        host=place.host,
        folder=place.folder,
        resource_pool=place.resource_pool,
        datastore=place.datastore,
        networks=VmNetworks(ha=place.ha_network, management=place.management_network),
        addresses=request.addresses,
        directory=str(directory),
    )
    after = replace(inventory, vms=(*inventory.vms, vm))
    return replace(state, next_vm=state.next_vm + 1, inventory=after), vm


def mark_deleting(
    vm_id: str, *, deleting: bool = True
) -> Callable[[State], tuple[State, Vm | None]]:
    """Mark a VM as being deleted, or not; the step returns the VM, or None if it is missing."""

    def mark(state: State) -> tuple[State, Vm | None]:
        vm = state.inventory.vm(vm_id)
        if vm is None:
            return state, None
        gone = replace(vm, deleting=deleting)
        vms = tuple(gone if other.id == vm_id else other for other in state.inventory.vms)
        return replace(state, inventory=replace(state.inventory, vms=vms)), gone

    return mark


def remove_vm(vm_id: str) -> Callable[[State], tuple[State, None]]:
    """Remove a VM from the inventory."""

    def remove(state: State) -> tuple[State, None]:
        vms = tuple(vm for vm in state.inventory.vms if vm.id != vm_id)
        return replace(state, inventory=replace(state.inventory, vms=vms)), None

    return remove


def set_host(
    host_id: str, connection_state: HostConnectionState | None, maintenance: bool | None
) -> Callable[[State], tuple[State, None]]:
    """Change the given properties of a host. The step raises ApiError NOT_FOUND."""

    def change(host: Host) -> Host:
        if connection_state is not None:
            host = replace(host, connection_state=connection_state)
        return host if maintenance is None else replace(host, maintenance=maintenance)

    def step(state: State) -> tuple[State, None]:
        inventory = state.inventory
        _known(inventory.host(host_id), host_id)
        hosts = tuple(change(host) if host.id == host_id else host for host in inventory.hosts)
        return replace(state, inventory=replace(inventory, hosts=hosts)), None

    return step


def set_reserved(datastore_id: str, reserved: int) -> Callable[[State], tuple[State, None]]:
    """Set a datastore's reserved bytes. The step raises ApiError NOT_FOUND."""

    def step(state: State) -> tuple[State, None]:
        inventory = state.inventory
        _known(inventory.datastore(datastore_id), datastore_id)
        datastores = tuple(
            replace(item, reserved=reserved) if item.id == datastore_id else item
            for item in inventory.datastores
        )
        return replace(state, inventory=replace(inventory, datastores=datastores)), None

    return step


def with_absolute_paths(root: Path, inventory: Inventory) -> Inventory:
    """Return the inventory for callers; on disk, paths are relative to the root."""
    return replace(
        inventory,
        vms=tuple(with_absolute_path(root, vm) for vm in inventory.vms),
        datastores=tuple(
            replace(item, path=str(root / item.path)) for item in inventory.datastores
        ),
    )


def with_absolute_path(root: Path, vm: Vm) -> Vm:
    """Return the VM with the absolute path of its directory."""
    return replace(vm, directory=str(root / vm.directory))


def fail_deleting(vm: Vm) -> NoReturn:
    """Raise the ApiError of a VM that is being deleted."""
    fail(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("infrastructure.vm.deleting", vm.name))


def _check_placement(inventory: Inventory, place: Placement) -> Datastore:
    taken = inventory.vm_by_name(place.name)
    if taken is not None:
        exists = message("infrastructure.vm.exists", place.name, taken.id)
        fail(ErrorType.ALREADY_EXISTS, exists)
    if place.name in ("", ".", "..") or "/" in place.name or "\0" in place.name:
        fail(ErrorType.INVALID_ARGUMENT, message("infrastructure.vm.name", repr(place.name)))
    wanted: Iterable[tuple[Entity | None, str]] = (
        (inventory.folder(place.folder), place.folder),
        (inventory.host(place.host), place.host),
        (inventory.resource_pool(place.resource_pool), place.resource_pool),
        (inventory.network(place.ha_network), place.ha_network),
        (inventory.network(place.management_network), place.management_network),
    )
    for entity, identifier in wanted:
        _known(entity, identifier)
    return _known(inventory.datastore(place.datastore), place.datastore)


def _known(entity: EntityT | None, identifier: str) -> EntityT:
    if entity is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", identifier))
    return entity


def _check_directory(directory: Path) -> None:
    """Refuse a directory that has files: they may be a user's."""
    if directory.exists() and any(directory.iterdir()):
        fail(ErrorType.ALREADY_EXISTS, message("infrastructure.vm.directory", directory))
