"""What a host does for the data nodes: directories and processes of VMs, by orders.

It keeps no state. Each order looks at what there is, and may be repeated.
"""

import asyncio
import errno
import hashlib
import ipaddress
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec

from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.file_errors import file_refusal
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.infrastructure.boot import BOOT_FILE
from openvcha.infrastructure.hosts import orders
from openvcha.infrastructure.hosts.orders import DATASTORE_MARK, MARK, Order, Place, Space, VmState
from openvcha.infrastructure.interface import Power
from openvcha.infrastructure.local.files import path_below, write_files
from openvcha.infrastructure.local.power import PowerSwitch, PowerTimeouts
from openvcha.infrastructure.local.processes import (
    NODE_PORTS,
    ProcessTable,
    Starter,
    address_answers,
)
from openvcha.infrastructure.local.state import LockTimeout, exclusive
from openvcha.system.files.durable import write_durably
from openvcha.system.files.rmtree_errors import FULL_PATH_ERRORS

NODE_FILE = "node.json"
HALF = f".{MARK}.new"
"""A mark that was being written when the host crashed."""
PROBE_SECONDS = 1.0


class DiskSpace(Protocol):
    """What `shutil.disk_usage` returns."""

    total: int
    free: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Whose directory it is; ``boots``: it is complete once it has a boot file, or is a node."""

    token: str
    boots: bool = False


class Units(Protocol):
    """The service manager of the host, where it runs."""

    async def forget(self, directory: Path) -> None:
        """Keep the node of a directory from being started again, and kill it, if it is a unit."""
        ...


class NoUnits:
    """A host without a service manager."""

    async def forget(self, directory: Path) -> None:
        """Do nothing."""


def responds(address: str, ports: Sequence[int] = NODE_PORTS) -> bool:
    """Return whether anything at an address answers, if only to refuse a connection."""
    return any(_connected(address, port) in (0, errno.ECONNREFUSED) for port in ports)


def listens(address: str, ports: Sequence[int] = NODE_PORTS) -> bool:
    """Return whether a program at an address accepts a connection."""
    return any(_connected(address, port) == 0 for port in ports)


def has_address(address: str) -> bool:
    """Return whether an interface of this machine has an address.

    A socket could be bound to others too (`ip_nonlocal_bind`). Nothing is sent.
    """
    if ipaddress.ip_address(address).is_loopback:
        return True
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, NODE_PORTS[0]))
        except OSError:  # no route
            return False
        # Only to itself does the kernel send from the address that it sends to.
        return ipaddress.ip_address(probe.getsockname()[0]) == ipaddress.ip_address(address)


def _connected(address: str, port: int) -> int | None:
    """Return the error number of a connection attempt; None if it could not be made."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            return probe.connect_ex((address, port))
        except OSError:
            return None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def no_helper(order: orders.AskHelper) -> str:
    """Return that there is no helper."""
    return f"nobody asks the helper at {order.socket}"


@dataclass(frozen=True)
class Machine:
    """The queries of the agent to its own machine."""

    answers: Callable[[str], bool] = address_answers
    probe: Callable[[str], bool] = responds
    listens: Callable[[str], bool] = listens
    has: Callable[[str], bool] = has_address
    disk_usage: Callable[[Path], Any] = shutil.disk_usage
    ask_helper: Callable[[orders.AskHelper], Awaitable[str]] = no_helper


_AtOnce = (
    orders.ProbeAddress
    | orders.HasAddress
    | orders.MeasureSpace
    | orders.ReadFile
    | orders.UseDatastore
)


class Agent:
    """The host's side of the infrastructure."""

    def __init__(
        self,
        processes: ProcessTable,
        starter: Starter,
        *,
        units: Units | None = None,
        timeouts: PowerTimeouts | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._timeouts = timeouts or PowerTimeouts()
        self._power = PowerSwitch(processes, starter, self._timeouts)
        self._units = units or NoUnits()
        self._machine = machine or Machine()

    async def answer(self, text: bytes) -> bytes:
        """Carry out an order, and return the answer; an unknown order has one too."""
        try:
            order = orders.decode_order(text)
            return orders.encode_result(await self.carry_out(order))
        except ApiError as error:
            return orders.encode_failure(error)
        except msgspec.DecodeError as error:
            said = message("hosts.order", str(error))
            return orders.encode_failure(ApiError(ErrorType.INVALID_ARGUMENT, said))
        except OSError as error:
            said = file_refusal(error) or message("hosts.order", str(error))
            return orders.encode_failure(ApiError(ErrorType.ERROR, said))

    async def carry_out(self, order: Order) -> Any:
        """Carry out an order, and return its result. Raises ApiError, OSError."""
        match order:
            case orders.Observe():
                return await self._observe(order.places)
            case orders.AskHelper():
                return await self._machine.ask_helper(order)
            case (
                orders.Make()
                | orders.WriteFiles()
                | orders.PowerOn()
                | orders.PowerOff()
                | orders.Delete()
            ):
                async with self._alone(order.place):
                    return await self._change(order)
        return await asyncio.to_thread(self._at_once, order)

    def _at_once(self, order: _AtOnce) -> Any:
        """Carry out an order that no other one can disturb."""
        match order:
            case orders.ProbeAddress():
                return self._in_use(order)
            case orders.HasAddress():
                return self._machine.has(order.address)
            case orders.MeasureSpace():
                return self._space(order.directories)
            case orders.ReadFile():
                return _read(order)
            case orders.UseDatastore():
                return _use_datastore(order)

    async def _change(
        self,
        order: orders.Make | orders.WriteFiles | orders.PowerOn | orders.PowerOff | orders.Delete,
    ) -> None:
        place = order.place
        directory = Path(place.directory)
        match order:
            case orders.Make():
                # A node that runs has read its boot file, or is about to.
                runs = await self._power.is_on(directory)
                await asyncio.to_thread(_make, order, runs)
            case orders.WriteFiles():
                _require_ours(place)
                if await self._power.is_on(directory):
                    said = message("infrastructure.vm.on", place.name)
                    fail(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said)
                await asyncio.to_thread(write_files, directory, order.files)
            case orders.PowerOn():
                _require_ours(place)
                await self._power.switch_on(directory, place.name)
            case orders.PowerOff():
                await self._switch_off(place)
            case orders.Delete():
                await self._switch_off(place)
                await asyncio.to_thread(_delete, place)

    async def _switch_off(self, place: Place) -> None:
        """Cut the power of a VM; whoever else has its directory by now keeps running."""
        directory = Path(place.directory)
        if _is_anothers(directory, place):
            return
        try:
            await self._units.forget(directory)
        finally:
            await self._power.switch_off(directory, place.name)

    async def _observe(self, places: tuple[Place, ...]) -> list[VmState]:
        directories = [Path(place.directory) for place in places]
        on = await self._power.are_on(directories)
        return [
            await asyncio.to_thread(_state, place, runs)
            for place, runs in zip(places, on, strict=True)
        ]

    def _in_use(self, order: orders.ProbeAddress) -> bool:
        beside = self._machine.listens if order.standing else self._machine.probe
        return self._machine.answers(order.address) or beside(order.address)

    def _space(self, directories: tuple[str, ...]) -> dict[str, Space]:
        found: dict[str, Space] = {}
        for directory in directories:
            try:
                usage = self._machine.disk_usage(Path(directory))
            except OSError:
                continue
            found[directory] = Space(capacity=usage.total, free=usage.free)
        return found

    @asynccontextmanager
    async def _alone(self, place: Place) -> AsyncIterator[None]:
        """Lock a VM among all data nodes. Raises ApiError RESOURCE_BUSY, NOT_FOUND."""
        directory = Path(place.directory)
        lock = directory.with_name(f".{directory.name}.lock")
        if not directory.parent.is_dir():
            fail(ErrorType.NOT_FOUND, message("hosts.datastore", str(directory.parent)))
        busy = self._timeouts.busy
        try:
            async with exclusive(lock, self._timeouts.poll, busy):
                yield
        except LockTimeout:
            fail(ErrorType.RESOURCE_BUSY, message("infrastructure.vm.busy", place.name, busy))


def _mark(directory: Path, place: Place) -> Mark | None:
    """Return the mark of a VM's directory; None if that is gone, or is not this VM's."""
    found = _any_mark(directory)
    return found if found and found.token == place.token else None


def _is_anothers(directory: Path, place: Place) -> bool:
    """Return whether a directory is another VM's, or a node's that an administrator has made."""
    found = _any_mark(directory)
    if found is None:
        return (directory / NODE_FILE).exists()
    return found.token != place.token


def _any_mark(directory: Path) -> Mark | None:
    try:
        return msgspec.json.decode((directory / MARK).read_bytes(), type=Mark)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def _require_ours(place: Place) -> Mark:
    found = _mark(Path(place.directory), place)
    if found is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", place.directory))
    return found


def _use_datastore(order: orders.UseDatastore) -> None:
    directory = Path(order.directory)
    if not directory.is_dir():
        fail(ErrorType.NOT_FOUND, message("hosts.datastore", order.directory))
    if not order.first:
        _require_mounted(directory)
    elif not (directory / DATASTORE_MARK).exists():
        write_durably(directory / DATASTORE_MARK, b"")


def _require_mounted(datastore: Path) -> None:
    """Refuse a datastore without its mark: the directory may be there, and its disk not yet."""
    if not (datastore / DATASTORE_MARK).is_file():
        said = message("hosts.datastore.unmarked", datastore, DATASTORE_MARK)
        fail(ErrorType.RESOURCE_INACCESSIBLE, said)


def _make(order: orders.Make, runs: bool) -> None:
    place, directory = order.place, Path(order.place.directory)
    found = None if directory.is_symlink() else _mark(directory, place)
    if found is None and not _is_free(directory):
        _refuse(directory)
    directory.mkdir(mode=0o700, exist_ok=True)
    boots = order.boot is not None or (found is not None and found.boots)
    mark = Mark(token=place.token, boots=boots)
    write_durably(directory / MARK, msgspec.json.encode(mark))
    if order.boot is not None and not runs and not (directory / NODE_FILE).exists():
        write_durably(directory / BOOT_FILE, order.boot)


def _is_free(directory: Path) -> bool:
    """Return whether there is nothing, or what a crash before the mark may have left."""
    if directory.is_symlink() or directory.exists():
        return not directory.is_symlink() and directory.is_dir() and _entries(directory) <= {HALF}
    return True


def _entries(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def _refuse(directory: Path) -> NoReturn:
    fail(ErrorType.ALREADY_EXISTS, message("infrastructure.vm.directory", directory))


def _read(order: orders.ReadFile) -> bytes:
    _require_ours(order.place)
    try:
        return path_below(Path(order.place.directory), order.path).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        missing = message("infrastructure.file.missing", order.place.name, order.path)
        fail(ErrorType.NOT_FOUND, missing)


def _state(place: Place, runs: bool) -> VmState:
    directory = Path(place.directory)
    found = _mark(directory, place)
    if found is None:
        # Programs may outlive their directory.
        unmarked = runs and not _is_anothers(directory, place)
        return VmState(power=Power.ON if unmarked else Power.GONE)
    complete = not found.boots or any(
        (directory / name).exists() for name in (BOOT_FILE, NODE_FILE)
    )
    return VmState(power=Power.ON if runs else Power.OFF, complete=complete)


def _delete(place: Place) -> None:
    directory = Path(place.directory)
    # The name carries the token: a deletion that was interrupted may have removed the mark.
    whose = hashlib.sha256(place.token.encode()).hexdigest()[:16]
    doomed = directory.with_name(f".{directory.name}.{whose}.deleted")
    resumed = doomed.exists()
    if resumed:
        shutil.rmtree(doomed, **FULL_PATH_ERRORS)
    if _mark(directory, place) is not None:
        directory.rename(doomed)
        shutil.rmtree(doomed, **FULL_PATH_ERRORS)
    elif not directory.is_symlink() and directory.is_dir() and _entries(directory) == {HALF}:
        (directory / HALF).unlink()
        directory.rmdir()
    elif not resumed:
        # Nothing of it is here: that is only true if its disk is.
        _require_mounted(directory.parent)


prepare(__name__)
