"""An HTTPS server on one address, inside a running event loop."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from openvcha.api_server.connection_limits import (
    CLIENT,
    ClientConnection,
    ConnectionLimiter,
    within_descriptor_limit,
)
from openvcha.api_server.server.accept import LOOP_SHARE, Acceptor, Tls
from openvcha.api_server.server.connection import STOPPING, Connection
from openvcha.api_server.server.listening import STOP_SECONDS, Listener, listen_directly
from openvcha.system.network.host_port import host_port

DATE_SECONDS = 1.0
"""The precision of a response's Date header."""


@dataclass(frozen=True)
class Limits:
    """Limits for clients: seconds, bytes of the headers, concurrent connections.

    The number of connections is lower if the process has too few descriptors. ``handshake_share``
    is the part of the loop's time for TLS handshakes.
    """

    request_seconds: float = 30.0
    keep_alive_seconds: int = 30
    handshake_seconds: int = 10
    stop_seconds: int = STOP_SECONDS
    header_bytes: int = 32 * 1024
    connections: int = 400
    handshake_share: float = LOOP_SHARE


class HttpsServer:
    """A server of an ASGI application that can be started and stopped many times."""

    def __init__(
        self,
        app: ASGIApp,
        certificate: Path,
        key: Path,
        *,
        authority: Path | None = None,
        limits: Limits | None = None,
        listen: Callable[[str, int], Awaitable[Listener]] = listen_directly,
    ) -> None:
        """`certificate` (with its chain) and `key` are PEM files, read at each start.

        The certificate of its `authority` is sent along: a new node knows only its thumbprint.
        `listen` returns the listener for an address and a port, and raises OSError.
        """
        self._app = app
        self._certificate = certificate
        self._key = key
        self._authority = authority
        self._limits = limits or Limits()
        self._listen = listen
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Return whether the server is running."""
        return self._serving is not None and not self._serving.done()

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and the port (chosen by the system if 0).

        Raises AddressUnusableError, ssl.SSLError or OSError for certificate and key, and
        RuntimeError if it is already running.
        """
        if self.running:
            raise RuntimeError("the server is running already")
        if self._server is not None:
            await self._server.cut_off()  # it has ended by itself
        context = _tls(self._certificate, self._key, self._authority)
        listener = cast(socket.socket, await self._listen(address, port))  # uvicorn only closes it
        host, bound = listener.getsockname()[:2]
        server = _Server(self._config(), context, self._limits)
        name = f"https {host_port(host, bound)}"
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=name)
        self._server, self._serving = server, serving
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            ready.cancel()
        if serving.done():
            listener.close()
            await serving  # raises the error
            raise RuntimeError("the server ended while it was starting")
        return host, bound

    def close(self) -> None:
        """Stop listening at once; running requests continue until `stop`."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Stop listening, wait for running requests up to the limit, abort the rest."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            return
        server.end()
        await serving
        await server.cut_off()

    async def wait(self) -> bool:
        """Wait until the server ends; return whether because its listener has.

        Raises the error that ended it.
        """
        server, serving = self._server, self._serving
        if server is None or serving is None:
            return False
        await asyncio.shield(serving)
        return server.listener_ended

    def _config(self) -> uvicorn.Config:
        limits = self._limits
        kind = type("BoundConnection", (Connection,), {"request_seconds": limits.request_seconds})
        return uvicorn.Config(
            self._app,
            http=kind,
            ws="none",
            lifespan="off",
            loop="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=limits.stop_seconds,
            h11_max_incomplete_event_size=limits.header_bytes,
        )


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers and with our TLS."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext, limits: Limits) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.listener_ended = False
        self.servers = []
        self._context = context
        self._limits = limits
        self._limiter = ConnectionLimiter(within_descriptor_limit(limits.connections))

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        limits = self._limits
        tls = Tls(
            self._context, limits.handshake_seconds, limits.stop_seconds, limits.handshake_share
        )
        # uvicorn only closes them and waits for that.
        self.servers = [
            Acceptor(listener, tls, self._limiter, self._connection, self._end_listener)  # type: ignore[misc]
            for listener in sockets or []
        ]
        self.started = True
        self.ready.set()

    async def main_loop(self) -> None:
        """Update the Date header until the server stops; uvicorn's own loop wakes every 0.1 s."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_SECONDS):
                    await self.stopping.wait()

    def _end_listener(self) -> None:
        self.listener_ended = True
        self.end()

    def end(self) -> None:
        """Begin to stop."""
        self.should_exit = True
        self.stopping.set()

    def close(self) -> None:
        """Stop listening."""
        for server in self.servers:
            server.close()

    async def cut_off(self) -> None:
        """Wait until the canceled handlers have responded, then abort open connections."""
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        self._limiter.close()

    def _connection(self, client: ClientConnection) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # like uvicorn
            config=self.config,
            server_state=self.server_state,
            # Streams never end by themselves: the event ends them.
            app_state={STOPPING: self.stopping, CLIENT: client},
        )


def _tls(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if authority is None:
        context.load_cert_chain(certificate, key)
        return context
    with _in_memory(certificate.read_bytes() + b"\n" + authority.read_bytes()) as chain:
        context.load_cert_chain(chain, key)
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Generator[str, None, None]:
    """Yield the path of a file in memory: ssl reads only files, and the disk may be full."""
    with os.fdopen(os.memfd_create("chain", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
