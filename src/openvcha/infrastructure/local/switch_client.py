"""How programs hold an address through the switch, start one, and end it."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from openvcha.infrastructure.local.switch_protocol import (
    Assign,
    CutConnection,
    CutProcess,
    Forget,
    Granted,
    Held,
    Place,
    Quit,
    Refused,
    Release,
    Reply,
    Request,
    Show,
    Shown,
    Take,
    decode_reply,
    encode,
    log_path,
    socket_path,
    tokens_path,
)
from openvcha.system.network.passed_sockets import receive
from openvcha.system.network.private_sockets import connect_socket, require_own_user

REPLY_SECONDS: Final = 2.0
START_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02
MAX_PACKET_BYTES: Final = 1 << 16

Start = Callable[[Path], Awaitable[object]]
"""Starts the switch of a root. Raises SwitchUnavailable."""


class SwitchUnavailable(OSError):  # noqa: N818 - named as in the standard library
    """The switch does not run, or does not respond."""


class PlaceRefused(OSError):  # noqa: N818 - named after the outcome
    """The switch does not give the place to this program."""


class SwitchedListener:
    """The connections that the switch passes on, in place of a listening socket."""

    def __init__(self, channel: socket.socket, place: Place) -> None:
        self._channel = channel
        self._place = place
        self._last = 0
        self._open = True

    def fileno(self) -> int:
        """Return the descriptor that is readable once a connection waits."""
        return self._channel.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection with its peer's address, never waiting.

        Raises OSError; BlockingIOError if none waits, ConnectionAbortedError if that one is lost,
        EOFError once another program holds the place, or the switch has ended.
        """
        try:
            data, accepted = receive(self._channel)
        except ConnectionResetError:
            raise EOFError from None
        if not data.isdigit():
            raise EOFError
        self._last = int(data)
        if accepted is None:
            # The kernel drops what this process has no free descriptor for.
            self._send(CutConnection(connection=self._last))
            raise OSError(errno.EMFILE, "no descriptor is left")
        try:
            return accepted, accepted.getpeername()
        except OSError as error:
            accepted.close()
            raise ConnectionAbortedError(error.errno, error.strerror) from error

    def getsockname(self) -> tuple[str, int]:
        """Return the address that clients connect to."""
        return self._place.address, self._place.port

    def close(self) -> None:
        """Give the place up; its connections may last for as long as was declared.

        The link stays until the switch closes it: its end would end them at once.
        """
        if self._open:
            self._open = False
            self._send(Release())
            asyncio.get_running_loop().add_reader(self._channel, self._await_end)

    def assign(self, process: int) -> None:
        """Note that the connection accepted last was passed on to a process, by its id."""
        self._send(Assign(connection=self._last, process=process))

    def cut(self, process: int) -> None:
        """End the connections that were passed on to a process, which has ended."""
        self._send(CutProcess(process=process))

    def _await_end(self) -> None:
        try:
            data, accepted = receive(self._channel)
        except BlockingIOError:
            return
        except OSError:
            data, accepted = b"", None
        if accepted is not None:
            accepted.close()  # it was on the way
        if not data:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()

    def _send(self, request: Request) -> None:
        """Send a request; a switch that is gone, or reads nothing, is noticed by its silence."""
        with contextlib.suppress(OSError):
            self._channel.send(encode(request))


class SwitchClient:
    """A client of the switch for a root; without ``start`` it starts none."""

    def __init__(self, root: Path, start: Start | None = None) -> None:
        self._root = root
        self._start = start

    async def take(
        self, place: tuple[str, int], token: int, *, holder: str, drain: float = 0.0
    ) -> SwitchedListener:
        """Take a place and return its listener.

        ``drain``: for how many seconds connections may last once the place is given up. Raises
        PlaceRefused, SwitchUnavailable.
        """
        wanted = Place(*place)
        wish = Take(place=wanted, token=token, holder=holder, drain=drain)
        channel = await self._connected()
        try:
            _require_granted(await _ask(channel, wish))
        except BaseException:
            channel.close()
            raise
        return SwitchedListener(channel, wanted)

    async def held(self) -> tuple[Held, ...]:
        """Return who holds what. Raises SwitchUnavailable, also if no switch runs."""
        async with self._connection() as channel:
            reply = await _ask(channel, Show())
        return reply.held if isinstance(reply, Shown) else ()

    async def forget(self) -> None:
        """Make the switch forget all tokens, also one that does not run. Raises OSError."""
        try:
            async with self._connection() as channel:
                await _ask(channel, Forget())
        except SwitchUnavailable:
            tokens_path(self._root).unlink(missing_ok=True)

    async def end(self) -> None:
        """End the switch, if it runs; return once it has ended. Kill one that does not respond."""
        try:
            channel = self._connect()
        except OSError:
            return
        with channel:
            try:
                process = os.pidfd_open(require_own_user(channel))
            except ProcessLookupError:
                return
            try:
                with contextlib.suppress(SwitchUnavailable):
                    await _ask(channel, Quit())
                await _end_of(process)
            finally:
                os.close(process)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[socket.socket]:
        try:
            channel = self._connect()
        except OSError as error:
            raise SwitchUnavailable(_not_running(self._root, error)) from error
        with channel:
            yield channel

    async def _connected(self) -> socket.socket:
        """Connect; start a switch first if none runs. Raises SwitchUnavailable."""
        try:
            return self._connect()
        except OSError as error:
            if self._start is None:
                raise SwitchUnavailable(_not_running(self._root, error)) from error
        await self._start(self._root)
        try:
            async with asyncio.timeout(START_SECONDS):
                while (channel := self._try_connect()) is None:  # noqa: ASYNC110 - its state
                    await asyncio.sleep(POLL_SECONDS)
                return channel
        except TimeoutError:
            raise SwitchUnavailable(
                f"the switch of {self._root} does not start within {START_SECONDS:g} s: see"
                f" {log_path(self._root)}"
            ) from None

    def _try_connect(self) -> socket.socket | None:
        try:
            return self._connect()
        except OSError:
            return None

    def _connect(self) -> socket.socket:
        return connect_socket(socket_path(self._root), socket.SOCK_SEQPACKET)


async def _ask(channel: socket.socket, request: Request) -> Reply:
    """Send a request and return the reply, which precedes any connection.

    Raises SwitchUnavailable.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            await loop.sock_sendall(channel, encode(request))
            packet = await loop.sock_recv(channel, MAX_PACKET_BYTES)
        if not packet:
            raise SwitchUnavailable("the switch has ended")
        return decode_reply(packet)
    except TimeoutError:
        raise SwitchUnavailable(f"the switch has not replied for {REPLY_SECONDS:g} s") from None
    except (OSError, msgspec.DecodeError) as error:
        raise SwitchUnavailable(f"the switch does not reply: {error}") from error


def _require_granted(reply: Reply) -> None:
    if not isinstance(reply, Granted):
        raise PlaceRefused(reply.reason if isinstance(reply, Refused) else str(reply))


async def _end_of(process: int) -> None:
    """Wait for the end of a process, by its descriptor; kill it if it does not end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            await ended.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        await ended.wait()
    finally:
        loop.remove_reader(process)


def _not_running(root: Path, error: OSError) -> str:
    return f"the switch of {root} does not run: {error.strerror or error}"
