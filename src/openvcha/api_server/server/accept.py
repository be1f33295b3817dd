"""Accepting connections within the limits, and starting TLS on each in turn."""

import asyncio
import socket
import ssl
import time
from asyncio import sslproto
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openvcha.api_server.connection_limits import ClientConnection, ConnectionLimiter, abort_nothing
from openvcha.api_server.fair_queue import FairQueue
from openvcha.api_server.server.listening import Listener
from openvcha.api_server.token_bucket import TokenBucket

ACCEPTS_PER_TURN: Final = 64
"""Connections in the kernel's backlog should not wait for the handshakes of earlier ones."""
PAUSE_SECONDS: Final = 0.1
"""Before the next attempt when the process has no descriptors left."""
LOOP_SHARE: Final = 0.2
"""The part of each second for handshakes: at two milliseconds each, a hundred of them."""
BURST_SECONDS: Final = 0.016
"""At once, after a pause: eight handshakes in one turn of the loop."""
INITIAL_ESTIMATE_SECONDS: Final = 0.002
WEIGHT: Final = 0.1
"""Weight of the newest handshake in the moving average."""
BUFFER_BYTES: Final = 32 * 1024
"""Per connection; asyncio's default of 256 KiB would dominate the cost of an idle one."""


@dataclass(frozen=True)
class Tls:
    """The server's TLS settings; times are in seconds, ``share`` is of the loop's time."""

    context: ssl.SSLContext
    handshake_seconds: int
    shutdown_seconds: int
    share: float = LOOP_SHARE


class Acceptor:
    """An acceptor of connections until it is closed; uvicorn uses it like an asyncio server."""

    def __init__(
        self,
        listener: Listener,
        tls: Tls,
        limiter: ConnectionLimiter,
        protocol: Callable[[ClientConnection], asyncio.Protocol],
        on_end: Callable[[], None],
    ) -> None:
        """``protocol`` creates the protocol of one connection. The listener is non-blocking.

        ``on_end`` is called if no more connections will come.
        """
        self._listener = listener
        self._tls = tls
        self._limiter = limiter
        self._protocol = protocol
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._beginning: set[asyncio.Task[None]] = set()
        self._handshakes = HandshakeScheduler(self._begin_soon, tls.share)
        self._watch()

    def close(self) -> None:
        """Accept no more connections."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._handshakes.close()

    async def wait_closed(self) -> None:
        """Wait for connections that are being accepted."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Accept one connection; return whether another one may be waiting."""
        try:
            accepted, origin = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except EOFError:
            self.close()
            self._on_end()
            return False
        except OSError:
            # No descriptors are left: the listener stays readable until there are.
            self._limiter.evict_idle()
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE_SECONDS, self._watch)
            return False
        client = self._limiter.admit(origin[0])
        if client is None:
            accepted.close()
            return True
        accepted.setblocking(False)
        self._handshakes.add(accepted, client)
        return True

    def _begin_soon(self, accepted: socket.socket, client: ClientConnection) -> None:
        beginning = self._loop.create_task(self._begin(accepted, client), name="accept")
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket, client: ClientConnection) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: ClientTls(
                    self._tls, client, self._protocol(client), self._handshakes.note_duration
                ),
                accepted,
            )
        except BaseException as failure:
            accepted.close()
            client.release()
            if not isinstance(failure, OSError):
                raise


class HandshakeScheduler:
    """A scheduler of TLS handshakes that uses only a share of the loop's time.

    Sources take turns; so do recognized and other sources.
    """

    def __init__(
        self, begin: Callable[[socket.socket, ClientConnection], None], share: float = LOOP_SHARE
    ) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._recognized: FairQueue[_Accepted] = FairQueue()
        self._unrecognized: FairQueue[_Accepted] = FairQueue()
        self._in_turn = deque([self._recognized, self._unrecognized])
        self._bucket = TokenBucket(share, BURST_SECONDS)
        self._seconds = INITIAL_ESTIMATE_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def add(self, accepted: socket.socket, client: ClientConnection) -> None:
        """Start the handshake when it is due; close the socket if it is evicted before."""
        queue = self._recognized if client.is_recognized else self._unrecognized
        one = _Accepted(accepted, client)

        def end() -> None:
            queue.discard(client.source, one)
            accepted.close()

        client.end = end
        queue.add(client.source, one)
        if self._timer is None:
            self._dispatch()

    def note_duration(self, seconds: float) -> None:
        """Record how long a handshake blocked the loop."""
        self._seconds += WEIGHT * (seconds - self._seconds)

    def close(self) -> None:
        """Start no more handshakes, and close the waiting sockets."""
        if self._timer is not None:
            self._timer.cancel()
        while one := self._next():
            one.client.release()
            one.socket.close()

    def _dispatch(self) -> None:
        self._timer = None
        while self._recognized or self._unrecognized:
            if delay := self._bucket.delay():
                self._timer = self._loop.call_later(delay, self._dispatch)
                return
            if one := self._next():
                self._bucket.take(self._seconds)
                one.client.end = abort_nothing
                self._begin(one.socket, one.client)

    def _next(self) -> "_Accepted | None":
        self._in_turn.rotate()
        return self._in_turn[0].next() or self._in_turn[1].next()


@dataclass(frozen=True, eq=False)
class _Accepted:
    socket: socket.socket
    client: ClientConnection


class ClientTls(sslproto.SSLProtocol):
    """TLS of one connection, which is counted from its first packet to its last."""

    max_size = BUFFER_BYTES

    def __init__(
        self,
        tls: Tls,
        client: ClientConnection,
        protocol: asyncio.Protocol,
        note_duration: Callable[[float], None] = lambda _: None,
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            protocol,
            tls.context,
            None,  # type: ignore[arg-type]  # nothing awaits the handshake
            server_side=True,
            ssl_handshake_timeout=tls.handshake_seconds,
            ssl_shutdown_timeout=tls.shutdown_seconds,
        )
        self._client = client
        self._note_duration = note_duration
        self._seconds = 0.0

    def buffer_updated(self, nbytes: int) -> None:
        """Process received data; measure how long a handshake takes."""
        if self._app_transport is not None:
            super().buffer_updated(nbytes)
            return
        begun = time.monotonic()
        super().buffer_updated(nbytes)
        self._seconds += time.monotonic() - begun
        if self._app_transport is not None:
            self._note_duration(self._seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - always this type
        self._client.end = transport.abort
        super().connection_made(transport)
        if not self._client.is_open:
            transport.abort()  # it was evicted while connecting

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection, even if the handshake is incomplete."""
        super().connection_lost(exc)
        self._client.release()
