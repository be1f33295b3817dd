"""The local infrastructure: a VM is a directory; it is on while its processes run.

It keeps no state in memory. Any number of processes may use the same root directory at once.
"""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import HostConnectionState, IpFamily, LocalizableMessage, VmPowerState
from openvcha.infrastructure import changes
from openvcha.infrastructure.boot import BOOT_FILE, encode_boot
from openvcha.infrastructure.interface import (
    Creation,
    NodeRequest,
    NodeState,
    Power,
    unreachable,
)
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.infrastructure.local import paths
from openvcha.infrastructure.local.files import make_directory, path_below, write_files
from openvcha.infrastructure.local.power import PowerSwitch, PowerTimeouts
from openvcha.infrastructure.local.processes import ProcessTable, Starter, address_answers
from openvcha.infrastructure.local.setup import Names, first_state
from openvcha.infrastructure.local.space import DiskUsage, with_space
from openvcha.infrastructure.local.state import LockTimeout, StateFile, exclusive
from openvcha.infrastructure.state import State
from openvcha.system.files.rmtree_errors import FULL_PATH_ERRORS


@dataclass(frozen=True)
class HostProbe:
    """The queries to this machine: addresses that respond, disk space, new identifiers."""

    answers: Callable[[str], bool] = address_answers
    disk_usage: DiskUsage = shutil.disk_usage
    new_uuid: Callable[[], uuid.UUID] = uuid.uuid4


_TIMEOUTS = PowerTimeouts()
_MACHINE = HostProbe()
_NAMES = Names()


class LocalInfrastructure:
    """An Infrastructure below a directory of this machine (see the protocol for each method)."""

    def __init__(
        self,
        root: Path,
        processes: ProcessTable,
        starter: Starter,
        *,
        timeouts: PowerTimeouts = _TIMEOUTS,
        machine: HostProbe = _MACHINE,
        reaches_all: bool = False,
    ) -> None:
        """Open the inventory that `create` made; the first use checks that it exists.

        A host that is not CONNECTED does not respond, except with ``reaches_all``: for who owns the
        machine that it stands for.
        """
        # Command lines name the directory of a node, and are compared with its real path.
        self.root = root.resolve()
        self._file = StateFile(self.root)
        self._timeouts = timeouts
        self._power = PowerSwitch(processes, starter, timeouts)
        self._machine = machine
        self._reaches_all = reaches_all

    @classmethod
    async def create(
        cls,
        root: Path,
        processes: ProcessTable,
        starter: Starter,
        *,
        management_subnet: str = "127.83.1.0/24",
        ha_subnet: str = "127.83.2.0/24",
        names: Names = _NAMES,
        timeouts: PowerTimeouts = _TIMEOUTS,
        machine: HostProbe = _MACHINE,
        reaches_all: bool = False,
    ) -> Self:
        """Create the inventory if there is none, and open it.

        Raises ApiError INVALID_ARGUMENT when the subnets are unusable, or differ from those of the
        existing inventory.
        """
        infrastructure = cls(
            root, processes, starter, timeouts=timeouts, machine=machine, reaches_all=reaches_all
        )
        state = first_state(management_subnet, ha_subnet, names, machine.new_uuid)
        await asyncio.to_thread(infrastructure._create, state)
        return infrastructure

    def _create(self, wanted: State) -> None:
        state = self._file.create(wanted)
        there = tuple(network.subnet for network in state.inventory.networks)
        if there != tuple(network.subnet for network in wanted.inventory.networks):
            known = ", ".join(dict.fromkeys(there))
            fail(ErrorType.INVALID_ARGUMENT, message("infrastructure.other", self.root, known))
        for datastore in state.inventory.datastores:
            make_directory(self.root / datastore.path)
        make_directory(self.root / "locks")

    async def inventory(self, *, power: bool = False) -> Inventory:
        """Return the inventory. Raises ApiError RESOURCE_INACCESSIBLE if it is unreadable."""
        measured = await asyncio.to_thread(self._measured)
        if not power:
            return measured
        on = await self._power.are_on([Path(vm.directory) for vm in measured.vms])
        return replace(measured, vms=tuple(map(_switched, measured.vms, on)))

    def _measured(self) -> Inventory:
        stored = paths.with_absolute_paths(self.root, self._file.load().inventory)
        return with_space(stored, self._machine.disk_usage)

    async def node(self, vm_id: str) -> NodeState:
        """Return the state of a VM."""
        inventory = await self._stored()
        vm = inventory.vm(vm_id)
        if vm is None:
            return NodeState(power=Power.GONE)
        state = NodeState(power=Power.UNKNOWN, host=vm.host, bios_uuid=vm.bios_uuid)
        if why := self._silent(inventory, vm.host):
            return replace(state, reason=why)
        on = await self._power.is_on(Path(vm.directory))
        return replace(state, power=Power.ON if on else Power.OFF)

    async def find(self, token: str) -> Creation | None:
        """Return the creation of this token; it is not done until its directory is complete."""
        vm = (await self._stored()).vm_by_token(token)
        return await asyncio.to_thread(_creation, vm) if vm else None

    async def begin(self, request: NodeRequest) -> Creation:
        """Create the VM's entry, directory and boot file; all is done when this returns."""
        self._require_host(await self._stored(), request.placement.host)
        bios_uuid = str(self._machine.new_uuid())
        vm = await asyncio.to_thread(self._create_vm, request, bios_uuid)
        if request.boot is not None and not await self._power.is_on(Path(vm.directory)):
            await self.write_files(vm.id, {BOOT_FILE: encode_boot(request.boot)})
        return await asyncio.to_thread(_creation, vm)

    async def observe(self, creation: Creation) -> Creation:
        """Return the creation as it is now. Raises ApiError NOT_FOUND if its VM is gone."""
        found = await self.find(creation.token)
        if found is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", creation.id))
        return found

    async def cancel(self, creation: Creation) -> None:
        """Do nothing: nothing continues after ``begin``."""

    def _create_vm(self, request: NodeRequest, bios_uuid: str) -> Vm:
        def add(state: State) -> tuple[State, Vm]:
            return changes.add_vm(
                state, request, bios_uuid, lambda place: paths.check_directory(self.root / place)
            )

        vm = paths.with_absolute_path(self.root, self._file.change(add))
        # Only after the entry: a crash must not leave a directory without one.
        make_directory(Path(vm.directory))
        return vm

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Write files to the directory of a VM that is off."""
        async with self._alone(vm_id):
            vm = await self._vm(vm_id)
            directory = Path(vm.directory)
            if await self._power.is_on(directory):
                fail(
                    ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("infrastructure.vm.on", vm.name)
                )
            await asyncio.to_thread(write_files, directory, dict(files))

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file of the VM's directory."""
        vm = await self._vm(vm_id)
        try:
            return await asyncio.to_thread(path_below(Path(vm.directory), path).read_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            fail(ErrorType.NOT_FOUND, message("infrastructure.file.missing", vm.name, path))

    async def power_on(self, vm_id: str) -> None:
        """Start the VM's supervisor, unless it runs."""
        async with self._alone(vm_id):
            vm = await self._vm(vm_id)
            await self._power.switch_on(Path(vm.directory), vm.name)

    async def power_off(self, vm_id: str) -> Power:
        """Kill all processes of the VM."""
        async with self._alone(vm_id):
            inventory = await self._stored()
            vm = inventory.vm(vm_id)
            if vm is None:
                return Power.GONE
            if self._silent(inventory, vm.host):
                return Power.UNKNOWN
            await self._power.switch_off(Path(vm.directory), vm.name)
            return Power.OFF

    async def delete(self, vm_id: str) -> bool:
        """Kill all processes of the VM, and delete its directory and entry."""
        async with self._alone(vm_id):
            vm = await asyncio.to_thread(self._file.change, changes.mark_deleting(vm_id))
            if vm is None:
                return True
            if self._silent(await self._stored(), vm.host):
                return False
            await self._delete(vm)
            return True

    async def _delete(self, vm: Vm) -> None:
        """Delete a VM with relative paths."""
        directory = self.root / vm.directory
        await self._power.switch_off(directory, vm.name)
        doomed = directory.with_name(f".{directory.name}.{vm.id}")
        try:
            await asyncio.to_thread(_withdraw, directory, doomed)
        except OSError:
            # Nothing has been deleted, so the VM is intact.
            await asyncio.to_thread(self._file.change, changes.mark_deleting(vm.id, deleting=False))
            raise
        await asyncio.to_thread(_delete_tree, doomed)
        await asyncio.to_thread(self._file.change, changes.remove_vm(vm.id))

    async def address_in_use(
        self,
        address: str,
        network: str | None = None,
        ignoring: Iterable[str] = (),
        *,
        standing: bool = False,
    ) -> bool:
        """Return whether another VM has the address, or anything responds at it."""
        del network, standing
        skipped = frozenset(ignoring)
        inventory = await self._stored()
        if inventory.vm_by_address(address, skipped) is not None:
            return True
        owner = inventory.vm_by_address(address)
        if owner is not None and await self._power.is_on(Path(owner.directory)):
            # The VM itself responds at the address, and is to be ignored.
            return False
        return await asyncio.to_thread(self._machine.answers, address)

    async def lacks_address(self, host: str, address: str) -> bool:
        """Return False: this machine has all loopback addresses."""
        del host, address
        return False

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return the refusal of IPv6; None for IPv4."""
        return message("infrastructure.ipv6") if family == IpFamily.IPV6 else None

    async def address_obstacle(
        self, host_id: str, interface: str, address: str, helper: str
    ) -> str:
        """Return nothing: this machine has all addresses."""
        del host_id, interface, address, helper
        return ""

    async def free_bytes(self, datastore: str) -> int:
        """Return the free bytes of the datastore's file system, less its reserve."""
        measured = await asyncio.to_thread(
            with_space, await self._stored(), self._machine.disk_usage
        )
        found = measured.datastore(datastore)
        if found is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", datastore))
        return found.free_space

    async def set_host(
        self,
        host: str,
        *,
        connection_state: HostConnectionState | None = None,
        maintenance: bool | None = None,
    ) -> None:
        """Disable a host or enable it again; None: unchanged. Raises ApiError NOT_FOUND."""
        step = changes.set_host(host, connection_state, maintenance)
        await asyncio.to_thread(self._file.change, step)

    async def set_reserved(self, datastore: str, reserved: int) -> None:
        """Reserve bytes of a datastore. Raises ApiError NOT_FOUND."""
        await asyncio.to_thread(self._file.change, changes.set_reserved(datastore, reserved))

    async def _stored(self) -> Inventory:
        """Return the inventory on disk, with absolute paths."""
        state = await asyncio.to_thread(self._file.load)
        return paths.with_absolute_paths(self.root, state.inventory)

    async def _vm(self, vm_id: str) -> Vm:
        """Return a VM that can be used. Raises ApiError if it is unknown, unreachable or doomed."""
        inventory = await self._stored()
        vm = inventory.vm(vm_id)
        if vm is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", vm_id))
        if vm.deleting:
            changes.fail_deleting(vm)
        self._require_host(inventory, vm.host)
        return vm

    def _require_host(self, inventory: Inventory, host: str) -> None:
        if why := self._silent(inventory, host):
            fail(ErrorType.RESOURCE_INACCESSIBLE, why)

    def _silent(self, inventory: Inventory, host_id: str) -> LocalizableMessage | None:
        """Return why a host does not respond; None if it does."""
        host = inventory.host(host_id)
        connected = host is None or host.connection_state is HostConnectionState.CONNECTED
        if host is None or connected or self._reaches_all:
            return None
        return unreachable(host.name, f"it is {host.connection_state.value}")

    @asynccontextmanager
    async def _alone(self, vm_id: str) -> AsyncIterator[None]:
        """Lock this VM against concurrent power changes, writes and deletion.

        Raises ApiError RESOURCE_BUSY when these do not end in time.
        """
        lock = self.root / "locks" / f"{quote(vm_id, safe='')}.lock"
        busy = self._timeouts.busy
        try:
            async with exclusive(lock, self._timeouts.poll, busy):
                yield
        except LockTimeout:
            fail(ErrorType.RESOURCE_BUSY, message("infrastructure.vm.busy", vm_id, busy))


def _creation(vm: Vm) -> Creation:
    done = not vm.deleting and Path(vm.directory).is_dir()
    return Creation(id=vm.id, token=vm.token, vm=vm.id, fraction=float(done), done=done)


def _switched(vm: Vm, on: bool) -> Vm:
    return replace(vm, power_state=VmPowerState.POWERED_ON if on else VmPowerState.POWERED_OFF)


def _withdraw(directory: Path, doomed: Path) -> None:
    """Move a directory away as a whole: if that is not permitted, nothing is deleted."""
    if directory.exists():
        directory.rename(doomed)


def _delete_tree(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory, **FULL_PATH_ERRORS)
