"""The paths of a local inventory: relative to its root on disk, absolute for callers."""

from pathlib import Path

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.infrastructure.inventory import Inventory, Vm


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


def check_directory(directory: Path) -> None:
    """Refuse a directory that has files: they may be a user's."""
    if directory.exists() and any(directory.iterdir()):
        fail(ErrorType.ALREADY_EXISTS, message("infrastructure.vm.directory", directory))
