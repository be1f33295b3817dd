"""Accepts connections one by one, as many as the door lets in, and begins TLS on each in turn."""

import asyncio
import socket
import ssl
import time
from asyncio import sslproto
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openvcha.api_server.by_source import BySource
from openvcha.api_server.connection_limits import Door, Guest, nothing
from openvcha.api_server.pace import Pace

AT_ONCE: Final = 64
"""So that whoever waits in the kernel's queue waits for no handshake of those before."""
PAUSE_SECONDS: Final = 0.1
"""Until it is tried again where no more files may be open."""
SHARE_OF_LOOP: Final = 0.2
"""Of each second, for handshakes: at two milliseconds each, a hundred of them."""
BURST_SECONDS: Final = 0.016
"""At once, after a rest: eight of them are one turn of the loop."""
FIRST_GUESS_SECONDS: Final = 0.002
WEIGHT: Final = 0.1
"""Of the newest handshake in the mean."""
BUFFER_BYTES: Final = 32 * 1024
"""For one connection; asyncio's own 256 KiB would be most of what an idle one costs."""


@dataclass(frozen=True)
class Tls:
    """The server's side of TLS; the times are in seconds."""

    context: ssl.SSLContext
    handshake_seconds: int
    shutdown_seconds: int


class Acceptor:
    """Listens until it is closed; to uvicorn it is a server of asyncio."""

    def __init__(
        self,
        listener: socket.socket,
        tls: Tls,
        door: Door,
        protocol: Callable[[Guest], asyncio.Protocol],
    ) -> None:
        """``protocol`` makes what speaks with one guest. The listener is not blocking."""
        self._listener = listener
        self._tls = tls
        self._door = door
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._beginning: set[asyncio.Task[None]] = set()
        self._handshakes = Handshakes(self._begin_soon)
        self._watch()

    def close(self) -> None:
        """Accept no more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._handshakes.close()

    async def wait_closed(self) -> None:
        """Wait for those that were just being accepted."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Accept one. Return whether another one may be waiting."""
        try:
            accepted, origin = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError:
            # No more files may be open: the listener stays readable for as long as that is so.
            self._door.make_room()
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE_SECONDS, self._watch)
            return False
        guest = self._door.enter(origin[0])
        if guest is None:
            accepted.close()
            return True
        accepted.setblocking(False)
        self._handshakes.add(accepted, guest)
        return True

    def _begin_soon(self, accepted: socket.socket, guest: Guest) -> None:
        beginning = self._loop.create_task(self._begin(accepted, guest), name="accept")
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket, guest: Guest) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: GuestTls(self._tls, guest, self._protocol(guest), self._handshakes.took),
                accepted,
            )
        except BaseException as failure:
            accepted.close()
            guest.leave()
            if not isinstance(failure, OSError):
                raise


class Handshakes:
    """Begins the handshakes of who was accepted: so many that they take a part of the loop's time.

    Sources take turns, and those that have shown a session with those that have not.
    """

    def __init__(self, begin: Callable[[socket.socket, Guest], None]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._known: BySource[_Accepted] = BySource()
        self._strangers: BySource[_Accepted] = BySource()
        self._in_turn = deque([self._known, self._strangers])
        self._pace = Pace(SHARE_OF_LOOP, BURST_SECONDS)
        self._seconds = FIRST_GUESS_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def add(self, accepted: socket.socket, guest: Guest) -> None:
        """Begin the handshake when it is time; whoever has to make room before is closed."""
        row = self._known if guest.familiar else self._strangers
        one = _Accepted(accepted, guest)

        def end() -> None:
            row.drop(guest.source, one)
            accepted.close()

        guest.end = end
        row.add(guest.source, one)
        if self._timer is None:
            self._go_on()

    def took(self, seconds: float) -> None:
        """Learn how long the loop was busy with a handshake."""
        self._seconds += WEIGHT * (seconds - self._seconds)

    def close(self) -> None:
        """Begin no more, and close who waits."""
        if self._timer is not None:
            self._timer.cancel()
        while one := self._next():
            one.guest.leave()
            one.socket.close()

    def _go_on(self) -> None:
        self._timer = None
        while self._known or self._strangers:
            if delay := self._pace.delay():
                self._timer = self._loop.call_later(delay, self._go_on)
                return
            if one := self._next():
                self._pace.take(self._seconds)
                one.guest.end = nothing
                self._begin(one.socket, one.guest)

    def _next(self) -> "_Accepted | None":
        self._in_turn.rotate()
        return self._in_turn[0].next() or self._in_turn[1].next()


@dataclass(frozen=True, eq=False)
class _Accepted:
    socket: socket.socket
    guest: Guest


class GuestTls(sslproto.SSLProtocol):
    """TLS with one guest, who is known to be there from its first packet to its last."""

    max_size = BUFFER_BYTES

    def __init__(
        self,
        tls: Tls,
        guest: Guest,
        protocol: asyncio.Protocol,
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            protocol,
            tls.context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=tls.handshake_seconds,
            ssl_shutdown_timeout=tls.shutdown_seconds,
        )
        self._guest = guest
        self._took = took
        self._seconds = 0.0

    def buffer_updated(self, nbytes: int) -> None:
        """Take in data; count how long a handshake takes."""
        if self._app_transport is not None:
            super().buffer_updated(nbytes)
            return
        begun = time.monotonic()
        super().buffer_updated(nbytes)
        self._seconds += time.monotonic() - begun
        if self._app_transport is not None:
            self._took(self._seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - the only kind there is
        self._guest.end = transport.abort
        super().connection_made(transport)
        if not self._guest.there:
            transport.abort()  # it had to make room before it was connected

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, also where the handshake was not over."""
        super().connection_lost(exc)
        self._guest.leave()
