"""Linux hosts by SSH: a VM is a directory of a host; it is on while its processes run.

The inventory is a record in the cluster's store. What a host has is only known while it can be
reached; its agent carries out orders (`orders.py`), whoever gives them.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import (
    HostConnectionState,
    IpFamily,
    LocalizableMessage,
    VmPowerState,
)
from openvcha.infrastructure import changes
from openvcha.infrastructure.boot import encode_boot
from openvcha.infrastructure.hosts import orders
from openvcha.infrastructure.hosts.commands import HostUnreachable
from openvcha.infrastructure.hosts.kept_inventory import InventoryStore
from openvcha.infrastructure.hosts.measurement import LOST, NEVER, Measurement
from openvcha.infrastructure.hosts.orders import Order, Place, Space, VmState
from openvcha.infrastructure.interface import (
    Creation,
    NodeRequest,
    NodeState,
    Power,
    unreachable,
)
from openvcha.infrastructure.inventory import Host, Inventory, Vm
from openvcha.infrastructure.state import State

VM_PREFIX = "vm-"
STATE_SECONDS = 3.0
ANSWER_SECONDS = 15.0
"""A small order may take that long on a busy host."""
POWER_SECONDS = 180.0
"""A VM that is started may take that long until its supervisor runs."""
DELETE_SECONDS = 600.0

ResultT = TypeVar("ResultT")

Ask = Callable[[Host, Order, float], Awaitable[bytes]]
"""Has a host's agent carry out an order within seconds. Raises HostUnreachable."""


class HostsInfrastructure:
    """An Infrastructure of hosts in the store's inventory (see the protocol for each method)."""

    def __init__(
        self,
        record: InventoryStore,
        ask: Ask,
        *,
        new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._ask = ask
        self._new_uuid = new_uuid
        self._clock = clock
        self._measured: dict[str, Measurement] = {}

    async def inventory(self, *, power: bool = False) -> Inventory:
        """Return the inventory, with space that was measured at most 15 s ago."""
        inventory = (await self._record.load_or_copy()).inventory
        await asyncio.gather(*(self._measure(inventory, host) for host in inventory.hosts))
        seen = self._with_space(inventory)
        return await self._with_power(seen) if power else seen

    async def node(self, vm_id: str) -> NodeState:
        """Return the state of a VM."""
        state = await self._record.load_or_copy()
        inventory = state.inventory
        vm = inventory.vm(vm_id)
        if vm is None:
            return _absent(state, vm_id)
        known = NodeState(power=Power.UNKNOWN, host=vm.host, bios_uuid=vm.bios_uuid)
        try:
            seen = await self._observe(_host(inventory, vm.host), vm)
        except HostUnreachable as error:
            return replace(known, reason=unreachable(vm.host, error))
        # Without its directory, a VM that the inventory has cannot run.
        off = Power.OFF if seen.power is Power.GONE else seen.power
        return replace(known, power=off)

    async def find(self, token: str) -> Creation | None:
        """Return the creation of this token; it is not done while its host is unreachable."""
        inventory = (await self._record.load()).inventory
        vm = inventory.vm_by_token(token)
        if vm is None:
            return None
        creation = Creation(id=vm.id, token=token, vm=vm.id, fraction=0.0)
        try:
            state = await self._observe(_host(inventory, vm.host), vm)
        except HostUnreachable as error:
            return replace(creation, text=unreachable(vm.host, error))
        done = state.complete and not vm.deleting
        return replace(creation, fraction=float(done), done=done)

    async def begin(self, request: NodeRequest) -> Creation:
        """Create the VM's entry, then its directory and boot file on the host."""
        inventory = (await self._record.load()).inventory
        # Before the entry: a host that is away gets none, nor does one whose disk is.
        host = _host(inventory, request.placement.host)
        await self._sent(host, _use(inventory, request), ANSWER_SECONDS, None)
        bios_uuid = str(self._new_uuid())
        vm = await self._record.change(
            lambda state: changes.add_vm(state, request, bios_uuid), idempotent=True
        )
        boot = encode_boot(request.boot) if request.boot is not None else None
        order = orders.Make(place=_place(vm), boot=boot)
        await self._sent(host, order, POWER_SECONDS, None)
        return Creation(id=vm.id, token=vm.token, vm=vm.id, fraction=1.0, done=True)

    async def observe(self, creation: Creation) -> Creation:
        """Return the creation as it is now. Raises ApiError NOT_FOUND if its VM is gone."""
        found = await self.find(creation.token)
        if found is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", creation.id))
        return found

    async def cancel(self, creation: Creation) -> None:
        """Do nothing: nothing continues after ``begin``."""

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Write files to the directory of a VM that is off."""
        host, vm = _usable(await self._record.load(), vm_id)
        order = orders.WriteFiles(place=_place(vm), files=dict(files))
        await self._sent(host, order, POWER_SECONDS, None)

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Return a file of the VM's directory."""
        host, vm = _usable(await self._record.load(), vm_id)
        order = orders.ReadFile(place=_place(vm), path=path)
        content: bytes = await self._sent(host, order, ANSWER_SECONDS, bytes)
        return content

    async def power_on(self, vm_id: str) -> None:
        """Start the VM's supervisor, unless it runs; the store may need it to work again."""
        host, vm = _usable(await self._record.load_or_copy(), vm_id)
        await self._sent(host, orders.PowerOn(place=_place(vm)), POWER_SECONDS, None)

    async def power_off(self, vm_id: str) -> Power:
        """Kill all processes of the VM; UNKNOWN if its host does not say that it has."""
        state = await self._record.load()
        inventory = state.inventory
        vm = inventory.vm(vm_id)
        if vm is None:
            return _absent(state, vm_id).power
        host = _host(inventory, vm.host)
        try:
            await self._ordered(host, orders.PowerOff(place=_place(vm)), POWER_SECONDS, None)
        except HostUnreachable:
            return Power.UNKNOWN
        return Power.OFF

    async def delete(self, vm_id: str) -> bool:
        """Kill all processes of the VM, and delete its directory and entry."""
        vm = await self._record.change(changes.mark_deleting(vm_id), idempotent=True)
        state = await self._record.load()
        if vm is None:
            return not _is_unheard_of(state, vm_id)
        inventory = state.inventory
        host = _host(inventory, vm.host)
        try:
            await self._ordered(host, orders.Delete(place=_place(vm)), DELETE_SECONDS, None)
        except HostUnreachable:
            return False
        await self._record.change(changes.remove_vm(vm_id), idempotent=True)
        return True

    async def address_in_use(
        self,
        address: str,
        network: str | None = None,
        ignoring: Iterable[str] = (),
        *,
        standing: bool = False,
    ) -> bool:
        """Return whether another VM has the address, or a host of the network meets anyone at it.

        Raises ApiError RESOURCE_INACCESSIBLE if no such host can be reached.
        """
        inventory = (await self._record.load()).inventory
        skipped = frozenset(ignoring)
        if inventory.vm_by_address(address, skipped) is not None:
            return True
        if inventory.vm_by_address(address) is not None:
            return False  # what responds there is to be ignored
        hosts = [host for host in inventory.hosts if network is None or network in host.networks]
        order = orders.ProbeAddress(address=address, standing=standing)
        found = await asyncio.gather(
            *(self._ordered(host, order, POWER_SECONDS, bool) for host in hosts),
            return_exceptions=True,
        )
        answers = [each for each in found if isinstance(each, bool)]
        if hosts and not answers:
            reasons = "; ".join(str(each) for each in found)
            fail(ErrorType.RESOURCE_INACCESSIBLE, unreachable(hosts[0].name, reasons))
        return any(answers)

    async def lacks_address(self, host: str, address: str) -> bool:
        """Return whether no interface of the host has the address.

        Raises ApiError RESOURCE_INACCESSIBLE if the host cannot be reached.
        """
        found = (await self._record.load()).inventory.host(host)
        if found is None:
            return False
        order = orders.HasAddress(address=address)
        try:
            return not await self._ordered(found, order, POWER_SECONDS, bool)
        except HostUnreachable as error:
            fail(ErrorType.RESOURCE_INACCESSIBLE, unreachable(found.name, str(error)))

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return None: nodes use both families."""

    async def address_obstacle(
        self, host_id: str, interface: str, address: str, helper: str
    ) -> str:
        """Return what the helper on the host says, or why it cannot be asked."""
        host = _host((await self._record.load()).inventory, host_id)
        order = orders.AskHelper(socket=helper, interface=interface, address=address)
        try:
            reason: str = await self._ordered(host, order, ANSWER_SECONDS, str)
        except HostUnreachable as error:
            return str(error)
        return reason

    async def free_bytes(self, datastore: str) -> int:
        """Return the free bytes of a datastore, less its reserve; measured now."""
        inventory = (await self._record.load()).inventory
        found = inventory.datastore(datastore)
        if found is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", datastore))
        for host in inventory.hosts:
            if datastore in host.datastores:
                order = orders.MeasureSpace(directories=(found.path,))
                spaces = await self._sent(host, order, ANSWER_SECONDS, dict[str, Space])
                space = spaces.get(found.path)
                return max(0, space.free - found.reserved) if space else 0
        return 0

    async def _observe(self, host: Host, vm: Vm) -> VmState:
        order = orders.Observe(places=(_place(vm),))
        states: list[VmState] = await self._ordered(host, order, STATE_SECONDS, list[VmState])
        if len(states) != 1:
            raise HostUnreachable("its agent's answer is not to the question")
        return states[0]

    async def _sent(self, host: Host, order: Order, seconds: float, type_: Any) -> Any:
        """Return the result of an order. Raises ApiError, RESOURCE_INACCESSIBLE without one."""
        try:
            return await self._ordered(host, order, seconds, type_)
        except HostUnreachable as error:
            fail(ErrorType.RESOURCE_INACCESSIBLE, unreachable(host.name, error))

    async def _ordered(self, host: Host, order: Order, seconds: float, type_: Any) -> Any:
        """Return the result of an order. Raises ApiError, HostUnreachable."""
        text = await self._ask(host, order, seconds)
        try:
            return orders.result_of(text, type_)
        except msgspec.DecodeError as error:
            raise HostUnreachable(f"its agent's answer cannot be read: {error}") from error

    async def _measure(self, inventory: Inventory, host: Host) -> None:
        """Measure a host's space, unless that was done lately."""
        now = self._clock()
        last = self._measured.get(host.id, NEVER)
        if now - last.at < last.valid:
            return
        paths = tuple(one.path for one in inventory.datastores if one.id in host.datastores)
        order = orders.MeasureSpace(directories=paths)
        try:
            spaces = await self._ordered(host, order, last.patience, dict[str, Space])
        except HostUnreachable:
            silent = min(last.silent + 1, LOST)
            self._measured[host.id] = Measurement(now, last.spaces, silent)
        else:
            self._measured[host.id] = Measurement(now, spaces, 0)

    def _with_space(self, inventory: Inventory) -> Inventory:
        """Return the inventory with what was measured last, and which hosts responded."""
        measured = {host.id: self._measured[host.id] for host in inventory.hosts}
        oldest = min((one.at for one in measured.values()), default=self._clock())
        spaces = {
            datastore: measured[host.id].spaces
            for host in inventory.hosts
            for datastore in host.datastores
        }
        datastores = []
        for one in inventory.datastores:
            space = spaces.get(one.id, {}).get(one.path)
            free = max(0, space.free - one.reserved) if space else 0
            capacity = space.capacity if space else 0
            datastores.append(replace(one, capacity=capacity, free_space=free))
        silent = HostConnectionState.NOT_RESPONDING
        return replace(
            inventory,
            age=max(0.0, self._clock() - oldest),
            datastores=tuple(datastores),
            hosts=tuple(
                host if measured[host.id].responds else replace(host, connection_state=silent)
                for host in inventory.hosts
            ),
        )

    async def _with_power(self, inventory: Inventory) -> Inventory:
        states = await asyncio.gather(*(self.node(vm.id) for vm in inventory.vms))
        on, off = VmPowerState.POWERED_ON, VmPowerState.POWERED_OFF
        return replace(
            inventory,
            vms=tuple(
                replace(vm, power_state=on if state.power is Power.ON else off)
                for vm, state in zip(inventory.vms, states, strict=True)
            ),
        )


def _absent(state: State, vm_id: str) -> NodeState:
    """Return the state of a VM that the inventory does not have.

    One that it has never had may be running anywhere: an administrator has made it, or the
    inventory is not the one that has it (the record is lost, or this is an older copy).
    """
    if vm_id.startswith(VM_PREFIX) and not _is_unheard_of(state, vm_id):
        return NodeState(power=Power.GONE)
    return NodeState(power=Power.UNKNOWN, reason=message("infrastructure.unknown", vm_id))


def _is_unheard_of(state: State, vm_id: str) -> bool:
    """Return whether the inventory has not given this number to a VM yet."""
    number = vm_id.removeprefix(VM_PREFIX)
    return number != vm_id and not (number.isdecimal() and int(number) < state.next_number)


def _use(inventory: Inventory, request: NodeRequest) -> Order:
    """Return the order for the datastore of a new VM, which may be its first. Raises ApiError."""
    datastore = inventory.datastore(request.placement.datastore)
    if datastore is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", request.placement.datastore))
    others = [vm for vm in inventory.vms if vm.token != request.token]
    used = any(vm.datastore == datastore.id for vm in others)
    return orders.UseDatastore(directory=datastore.path, first=not used)


def _usable(state: State, vm_id: str) -> tuple[Host, Vm]:
    """Return a VM that can be used, and its host. Raises ApiError."""
    vm = state.inventory.vm(vm_id)
    if vm is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", vm_id))
    if vm.deleting:
        changes.fail_deleting(vm)
    return _host(state.inventory, vm.host), vm


def _host(inventory: Inventory, host_id: str) -> Host:
    host = inventory.host(host_id)
    if host is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", host_id))
    return host


def _place(vm: Vm) -> Place:
    return Place(directory=vm.directory, token=vm.token, name=vm.name)
