"""An infrastructure that is SIMULATED, with the faults of its world."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import HostConnectionState, IpFamily, LocalizableMessage, VmPowerState
from openvcha.infrastructure import changes
from openvcha.infrastructure.boot import BOOT_FILE, encode_boot
from openvcha.infrastructure.interface import (
    Creation,
    NodeRequest,
    NodeState,
    Power,
    VmRequest,
    unreachable,
)
from openvcha.infrastructure.inventory import Host, Inventory, Vm
from openvcha.infrastructure.local.setup import Names, first_state
from openvcha.infrastructure.state import State

ROOT = Path("/simulated")
GIGABYTE = 1_000_000_000
SLOW_LOOKS = 3
"""How often a slow creation is looked at before it is done."""


class VmWorld(Protocol):
    """What an infrastructure controls. ``faults`` names what does not work in it.

    ``HOST is away``: a host does not respond. ``replies are lost``: what was asked for is done, but
    the caller gets an error. ``creations are slow``: they need several looks. ``creations stop``:
    they stay half made until they are begun again. ``infrastructure busy``, ``cannot delete``,
    ``directory refused``: calls fail. ``hosts lack addresses``: nodes could not have theirs.
    """

    root: Path
    state: State
    faults: set[str]
    power_looks: int
    unfinished: dict[str, int]
    """Looks that are left until a VM's creation is done."""

    def add_vm(self, request: VmRequest) -> Vm:
        """Create a VM that is off, or return that of the token."""
        ...

    def vm_on(self, vm_id: str) -> bool:
        """Return whether a VM is on."""
        ...

    def vm_files(self, vm_id: str) -> dict[str, bytes]:
        """Return a VM's files; a change of them is seen by the VM."""
        ...

    def power_on(self, vm_id: str) -> None:
        """Start a VM."""
        ...

    def cut(self, vm_id: str) -> None:
        """Stop a VM."""
        ...

    async def delete_vm(self, vm_id: str) -> None:
        """Delete a VM."""
        ...


class Life(Protocol):
    """The life of a process, which may end before or after each of its effects."""

    def check(self) -> None:
        """Raise StoreUnavailable if the process has died."""
        ...

    async def before(self) -> None:
        """Count an effect that is about to happen."""
        ...

    async def after(self) -> None:
        """Perhaps die after an effect."""
        ...


class Immortal:
    """The life of a process that never dies."""

    def check(self) -> None:
        """Do nothing."""

    async def before(self) -> None:
        """Do nothing."""

    async def after(self) -> None:
        """Do nothing."""


@dataclass
class SimulatedMachines:
    """A world of VMs in which nothing runs."""

    root: Path = ROOT
    state: State = field(
        default_factory=lambda: first_state("127.83.1.0/24", "127.83.2.0/24", Names())
    )
    faults: set[str] = field(default_factory=set)
    power_looks: int = 0
    unfinished: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    on: set[str] = field(default_factory=set)

    def add_vm(self, request: VmRequest) -> Vm:
        """Create a VM as the local infrastructure does."""
        uuid = f"uuid-{self.state.next_number}"
        self.state, vm = changes.add_vm(self.state, request, uuid)
        self.files.setdefault(vm.id, {})
        return vm

    def vm_on(self, vm_id: str) -> bool:
        """Return whether a VM is on."""
        return vm_id in self.on

    def vm_files(self, vm_id: str) -> dict[str, bytes]:
        """Return a VM's files."""
        return self.files[vm_id]

    def power_on(self, vm_id: str) -> None:
        """Start a VM."""
        self.on.add(vm_id)

    def cut(self, vm_id: str) -> None:
        """Stop a VM."""
        self.on.discard(vm_id)

    async def delete_vm(self, vm_id: str) -> None:
        """Delete a VM."""
        self.cut(vm_id)
        self.files.pop(vm_id, None)
        self.state, _ = changes.remove_vm(vm_id)(self.state)


@dataclass
class SimulatedInfrastructure:
    """The infrastructure of a world, as one process sees it: an Infrastructure."""

    world: VmWorld
    life: Life = field(default_factory=Immortal)

    async def inventory(self, *, power: bool = False) -> Inventory:
        """Return the inventory, with the faults of the world; count measurements of power."""
        self.life.check()
        self._require_inventory()
        await asyncio.sleep(0)
        stores = (
            replace(item, capacity=100 * GIGABYTE, free_space=50 * GIGABYTE)
            for item in self.world.state.inventory.datastores
        )
        hosts = tuple(map(self._as_reached, self.world.state.inventory.hosts))
        found = replace(self.world.state.inventory, datastores=tuple(stores), hosts=hosts)
        if not power:
            return found
        self.world.power_looks += 1
        return replace(found, vms=tuple(map(self._with_power, found.vms)))

    async def node(self, vm_id: str) -> NodeState:
        """Return the state of a VM; UNKNOWN while its host is away."""
        self.life.check()
        self._require_inventory()
        await asyncio.sleep(0)
        vm = self._vm(vm_id)
        if vm is None:
            return NodeState(power=Power.GONE)
        why = self._away(vm)
        power = Power.ON if self.world.vm_on(vm_id) else Power.OFF
        return NodeState(
            power=Power.UNKNOWN if why else power,
            host=vm.host,
            bios_uuid=vm.bios_uuid,
            reason=why,
        )

    async def find(self, token: str) -> Creation | None:
        """Return the creation of a token, also one that is half made."""
        self.life.check()
        self._require_inventory()
        await asyncio.sleep(0)
        vm = self.world.state.inventory.vm_by_token(token)
        return self._creation(vm) if vm else None

    async def begin(self, request: NodeRequest) -> Creation:
        """Create a VM, or continue its creation."""
        host = request.placement.host
        if f"{host} is away" in self.world.faults:
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, unreachable(host, "no route"))
        async with self._acting():
            new = self.world.state.inventory.vm_by_token(request.token) is None
            vm = self.world.add_vm(request)
            if new and {"creations are slow", "creations stop"} & self.world.faults:
                self.world.unfinished[vm.id] = SLOW_LOOKS
            elif "creations are slow" not in self.world.faults:
                self.world.unfinished.pop(vm.id, None)
            if request.boot and not self.world.vm_on(vm.id):
                self.world.vm_files(vm.id)[BOOT_FILE] = encode_boot(request.boot)
        return self._creation(vm)

    async def observe(self, creation: Creation) -> Creation:
        """Return the progress of a creation; a look brings a slow one forward."""
        found = await self.find(creation.token)
        if found is None:
            raise ApiError(ErrorType.NOT_FOUND, message("infrastructure.unknown", creation.id))
        left = self.world.unfinished.get(creation.id, 0) - 1
        if left >= 0 and "creations stop" not in self.world.faults:
            self.world.unfinished[creation.id] = left
            if left == 0:
                del self.world.unfinished[creation.id]
        return found

    async def cancel(self, creation: Creation) -> None:
        """Stop a creation: it stays half made."""
        async with self._acting():
            if creation.id in self.world.unfinished:
                self.world.unfinished[creation.id] = SLOW_LOOKS

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Write files to a VM that is off."""
        self._require_host(vm_id)
        async with self._acting():
            if self.world.vm_on(vm_id):
                said = message("infrastructure.vm.on", vm_id)
                raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said)
            self.world.vm_files(vm_id).update(files)

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file of a VM."""
        self.life.check()
        self._require_host(vm_id)
        await asyncio.sleep(0)
        content = self.world.vm_files(vm_id).get(path)
        if content is None:
            raise ApiError(ErrorType.NOT_FOUND, message("infrastructure.file.missing", vm_id, path))
        return content

    async def power_on(self, vm_id: str) -> None:
        """Start a VM whose creation is done."""
        vm = self._require_host(vm_id)
        if vm_id in self.world.unfinished or vm.deleting:
            said = message("infrastructure.vm.deleting", vm.name)
            raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said)
        async with self._acting():
            self.world.power_on(vm_id)

    async def power_off(self, vm_id: str) -> Power:
        """Stop a VM; UNKNOWN while its host is away."""
        vm = self._vm(vm_id)
        if vm is None:
            return Power.GONE
        if self._away(vm):
            return Power.UNKNOWN
        async with self._acting():
            self.world.cut(vm_id)
        return Power.OFF

    async def delete(self, vm_id: str) -> bool:
        """Delete a VM, with the faults of the world; False while its host is away."""
        vm = self._vm(vm_id)
        if vm is None:
            return True
        if "cannot delete" in self.world.faults:
            raise ApiError(ErrorType.TIMED_OUT, message("infrastructure.vm.busy", vm_id, 1))
        if "directory refused" in self.world.faults:
            raise PermissionError(errno.EACCES, "Permission denied, refused", f"/vms/{vm_id}")
        async with self._acting():
            if self._away(vm):
                self.world.state, _ = changes.mark_deleting(vm_id)(self.world.state)
                return False
            self.world.unfinished.pop(vm_id, None)
            await self.world.delete_vm(vm_id)
        return True

    async def address_in_use(
        self,
        address: str,
        network: str | None = None,
        ignoring: Iterable[str] = (),
        *,
        standing: bool = False,
    ) -> bool:
        """Return whether another VM has the address."""
        del network, standing
        return self.world.state.inventory.vm_by_address(address, ignoring) is not None

    async def lacks_address(self, host: str, address: str) -> bool:
        """Return whether a test has taken the addresses from all hosts."""
        del host, address
        return "hosts lack addresses" in self.world.faults

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return None: the simulation supports every address family."""
        del family
        return None

    async def address_obstacle(
        self, host_id: str, interface: str, address: str, helper: str
    ) -> str:
        """Return nothing: each host has a helper for each address."""
        del host_id, interface, address, helper
        return ""

    async def free_bytes(self, datastore: str) -> int:
        """Return half of the capacity. Raises ApiError NOT_FOUND."""
        found = (await self.inventory()).datastore(datastore)
        if found is None:
            raise ApiError(ErrorType.NOT_FOUND, message("infrastructure.unknown", datastore))
        return found.free_space

    def _vm(self, vm_id: str) -> Vm | None:
        return self.world.state.inventory.vm(vm_id)

    def _creation(self, vm: Vm) -> Creation:
        left = self.world.unfinished.get(vm.id, 0)
        done = not vm.deleting and left == 0
        fraction = 1 - left / SLOW_LOOKS
        return Creation(id=vm.id, token=vm.token, vm=vm.id, fraction=fraction, done=done)

    def _with_power(self, vm: Vm) -> Vm:
        on = self.world.vm_on(vm.id)
        return replace(vm, power_state=VmPowerState.POWERED_ON if on else VmPowerState.POWERED_OFF)

    def _away(self, vm: Vm) -> LocalizableMessage | None:
        """Return that the VM's host does not respond; None if it does."""
        away = f"{vm.host} is away" in self.world.faults
        return unreachable(vm.host, "no route") if away else None

    def _as_reached(self, host: Host) -> Host:
        away = f"{host.id} is away" in self.world.faults
        state = HostConnectionState.NOT_RESPONDING
        return replace(host, connection_state=state) if away else host

    def _require_host(self, vm_id: str) -> Vm:
        vm = self._vm(vm_id)
        if vm is None:
            raise ApiError(ErrorType.NOT_FOUND, message("infrastructure.unknown", vm_id))
        if why := self._away(vm):
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, why)
        return vm

    def _require_inventory(self) -> None:
        if "infrastructure busy" in self.world.faults:
            said = message("infrastructure.none", self.world.root, "stale file handle")
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, said)

    @asynccontextmanager
    async def _acting(self) -> AsyncIterator[None]:
        await self.life.before()
        self.life.check()
        if "infrastructure busy" in self.world.faults:
            raise ApiError(ErrorType.RESOURCE_BUSY, message("infrastructure.vm.busy", "vm", 90))
        yield
        await self.life.after()
        if "replies are lost" in self.world.faults:
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, unreachable("host", "reply lost"))
