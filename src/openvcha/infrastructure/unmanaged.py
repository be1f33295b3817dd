"""No infrastructure: an administrator makes every node, on machines of any kind.

Its inventory is empty. Whether a node of another machine is off, nobody knows here.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NoReturn

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import IpFamily, LocalizableMessage
from openvcha.infrastructure.interface import Creation, NodeRequest, NodeState, Power
from openvcha.infrastructure.inventory import Inventory

ANSWER_SECONDS = 1.0
Connect = Callable[[str, int], Awaitable[bool]]


async def accepts(address: str, port: int) -> bool:
    """Return whether a program accepts a connection there within ANSWER_SECONDS."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
        writer.close()
        return True
    return False


class UnmanagedMachines:
    """An Infrastructure that creates nothing (see the protocol for each method)."""

    def __init__(self, ports: Iterable[int], accepts: Connect = accepts) -> None:
        """Remember the ports at which a node that has an address responds."""
        self._ports = tuple(ports)
        self._accepts = accepts

    async def inventory(self, *, power: bool = False) -> Inventory:
        """Return the empty inventory."""
        del power
        return Inventory()

    async def node(self, vm_id: str) -> NodeState:
        """Return that nothing is known of this machine: it may run."""
        return NodeState(power=Power.UNKNOWN, reason=message("infrastructure.unknown", vm_id))

    async def find(self, token: str) -> Creation | None:
        """Return None: nothing is ever created."""
        del token
        return None

    async def begin(self, request: NodeRequest) -> Creation:
        """Raise ApiError UNSUPPORTED."""
        _refuse(request.placement.name)

    async def observe(self, creation: Creation) -> Creation:
        """Raise ApiError NOT_FOUND."""
        _unknown(creation.id)

    async def cancel(self, creation: Creation) -> None:
        """Do nothing: there is no creation."""

    async def write_files(self, vm_id: str, files: Mapping[str, bytes]) -> None:
        """Raise ApiError NOT_FOUND."""
        del files
        _unknown(vm_id)

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """Raise ApiError NOT_FOUND."""
        del path
        _unknown(vm_id)

    async def power_on(self, vm_id: str) -> None:
        """Raise ApiError NOT_FOUND."""
        _unknown(vm_id)

    async def power_off(self, vm_id: str) -> Power:
        """Return UNKNOWN: only its administrator can switch a machine off."""
        del vm_id
        return Power.UNKNOWN

    async def delete(self, vm_id: str) -> bool:
        """Return True: nothing of ours is there."""
        del vm_id
        return True

    async def address_in_use(
        self,
        address: str,
        network: str | None = None,
        ignoring: Iterable[str] = (),
        *,
        standing: bool = False,
    ) -> bool:
        """Return whether a node already responds at the address.

        That a machine has it is no conflict: the one that is to join has it already.
        """
        del network, ignoring, standing
        return any(await asyncio.gather(*(self._accepts(address, port) for port in self._ports)))

    async def lacks_address(self, host: str, address: str) -> bool:
        """Return False: no node is created on a host."""
        del host, address
        return False

    def unsupported_family(self, family: IpFamily) -> LocalizableMessage | None:
        """Return None: the machines have addresses of any family."""
        del family
        return None

    async def address_obstacle(
        self, host_id: str, interface: str, address: str, helper: str
    ) -> str:
        """Return nothing: nobody can look."""
        del host_id, interface, address, helper
        return ""

    async def free_bytes(self, datastore: str) -> int:
        """Raise ApiError NOT_FOUND."""
        _unknown(datastore)


def _unknown(identifier: str) -> NoReturn:
    fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", identifier))


def _refuse(name: str) -> NoReturn:
    fail(ErrorType.UNSUPPORTED, message("infrastructure.unmanaged", name))
