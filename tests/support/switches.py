"""The switch of a loopback lab inside a test's own event loop, and its clients."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until_async

from openvcha.infrastructure.local.switch import IDLE_SECONDS, Switch
from openvcha.infrastructure.local.switch_client import SwitchClient, SwitchedListener
from openvcha.infrastructure.local.switch_places import TokenFile
from openvcha.infrastructure.local.switch_protocol import socket_path
from openvcha.system.network.private_sockets import listen

HOST = "127.0.0.1"
DEADLINE = 60.0


def free_place() -> tuple[str, int]:
    """Return an address and a port that nobody has just now."""
    return free_places(1)[0]


def free_places(count: int) -> list[tuple[str, int]]:
    """Return different places that nobody has just now."""
    with ExitStack() as others:
        # All at once: the kernel may give one port twice in a row.
        taken = [others.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [(HOST, each.getsockname()[1]) for each in taken]


@asynccontextmanager
async def switching(root: Path, idle: float = IDLE_SECONDS) -> AsyncIterator[Switch]:
    """Run a switch for a root during a block."""
    with listen(socket_path(root), socket.SOCK_SEQPACKET) as listener:
        switch = Switch(listener, TokenFile(root), idle)
        running = asyncio.create_task(switch.run())
        try:
            yield switch
        finally:
            switch.ended.set()
            await running
            vanish_all()


@dataclass
class Holder:
    """A program that holds a place; it keeps what it accepts."""

    listener: SwitchedListener
    place: tuple[str, int]

    async def accept(self) -> socket.socket:
        """Return the next connection. Raises EOFError once the place is lost."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.listener, readable.set)
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    await readable.wait()
                    readable.clear()
                    with contextlib.suppress(BlockingIOError):
                        return self.listener.accept()[0]
        finally:
            loop.remove_reader(self.listener)

    async def connection(self) -> tuple[socket.socket, socket.socket]:
        """Return a new connection: the client's end, and the holder's."""
        client = await connected(self.place)
        return client, await self.accept()

    def vanish(self) -> None:
        """Close the link, as the end of the program does."""
        if self.listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.listener)
            self.listener._channel.close()


_holders: list[Holder] = []


async def hold(root: Path, place: tuple[str, int], token: int, drain: float = 0.0) -> Holder:
    """Take a place. Raises OSError."""
    listener = await SwitchClient(root).take(place, token, holder=f"holder {token}", drain=drain)
    return held(listener, place)


def held(listener: SwitchedListener, place: tuple[str, int]) -> Holder:
    """Return the holder of a place; ``vanish_all`` closes its link."""
    _holders.append(Holder(listener, place))
    return _holders[-1]


def vanish_all() -> None:
    """Close the links of all holders."""
    while _holders:
        _holders.pop().vanish()


async def connected(place: tuple[str, int]) -> socket.socket:
    """Return a client that is connected to a place, non-blocking. Raises OSError."""
    client = socket.socket()
    client.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(client, place)
    except BaseException:
        client.close()
        raise
    return client


async def until_ended(client: socket.socket) -> None:
    """Wait until a client sees the end of its connection, in whichever way."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(client, 1 << 16):
                pass


async def until_refused(place: tuple[str, int]) -> None:
    """Wait until nobody listens at a place."""

    async def refused() -> bool:
        try:
            (await connected(place)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it was closed while this client waited
        return False

    await until_async(refused, DEADLINE, pause=0.01)


async def until_connections(root: Path, count: int) -> None:
    """Wait until the switch knows of exactly this many open connections."""

    async def counted() -> bool:
        shown = await SwitchClient(root).held()
        return sum(one.connections for one in shown) == count

    await until_async(counted, DEADLINE, pause=0.01)
