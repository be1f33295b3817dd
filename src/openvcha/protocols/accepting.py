"""Accepts connections one by one, as many as the door lets in, and begins TLS on each."""

import asyncio
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openvcha.protocols.door import Door, Guest

AT_ONCE: Final = 64
"""So that whoever waits in the kernel's queue waits for no handshake of those before."""
PAUSE_SECONDS: Final = 0.1
"""Until it is tried again where no more files may be open."""
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
        self._watch()

    def close(self) -> None:
        """Accept no more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            self._listener.close()

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
        beginning = self._loop.create_task(self._begin(accepted, guest), name="accept")
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        return True

    async def _begin(self, accepted: socket.socket, guest: Guest) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: GuestTls(self._tls, guest, self._protocol(guest)), accepted
            )
        except BaseException as failure:
            accepted.close()
            guest.leave()
            if not isinstance(failure, OSError):
                raise


class GuestTls(sslproto.SSLProtocol):
    """TLS with one guest, who is known to be there from its first packet to its last."""

    max_size = BUFFER_BYTES

    def __init__(self, tls: Tls, guest: Guest, protocol: asyncio.Protocol) -> None:
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
