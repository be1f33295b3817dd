"""Free space of the datastores."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from openvcha.infrastructure.inventory import Datastore, Inventory


class Usage(Protocol):
    """The result of `shutil.disk_usage`, in bytes."""

    @property
    def total(self) -> int:
        """Return the size of the file system."""
        ...

    @property
    def free(self) -> int:
        """Return its free space."""
        ...


DiskUsage = Callable[[Path], Usage]


def with_space(inventory: Inventory, disk_usage: DiskUsage) -> Inventory:
    """Return the inventory (absolute paths) with measured space; a missing directory has none.

    Each file system is measured once, so datastores on the same one have equal values.
    """
    measured: dict[int, Usage] = {}

    def measure(datastore: Datastore) -> Datastore:
        path = Path(datastore.path)
        try:
            device = path.stat().st_dev
        except FileNotFoundError:
            return replace(datastore, capacity=0, free_space=0)
        if device not in measured:
            measured[device] = disk_usage(path)
        usage = measured[device]
        free = max(0, usage.free - datastore.reserved)
        return replace(datastore, capacity=usage.total, free_space=free)

    return replace(inventory, datastores=tuple(map(measure, inventory.datastores)))
