"""The API with several workers, in one process: each serves on what the distributor passes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp
from tests.support.edge import TlsFiles
from tests.support.waiting import until_async

from openvcha.api_server.server.https import HttpsServer, Limits
from openvcha.api_server.server.listening import Listener
from openvcha.api_server.server.passed_connections import PassedConnections
from openvcha.daemon.api_processes.distributor import Distributor
from openvcha.daemon.api_processes.worker_socket import register

DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Workers:
    """A distributor that listens at ``port``, and the servers of its workers, from 1."""

    distributor: Distributor
    servers: tuple[HttpsServer, ...]
    port: int

    async def until_connected(self, *numbers: int) -> None:
        """Wait until exactly these workers get connections."""

        def connected() -> bool:
            return self.distributor.connected == list(numbers)

        await until_async(connected, DEADLINE_SECONDS, pause=0.01)


@asynccontextmanager
async def distributing(
    folder: Path, apps: Sequence[ASGIApp], tls: TlsFiles, limits: Limits | None = None
) -> AsyncIterator[Workers]:
    """Serve each application as a worker during a block."""
    path, distributor = folder / "api-connections.sock", Distributor(len(apps))
    running = asyncio.create_task(distributor.run(path))
    await until_async(path.exists, DEADLINE_SECONDS, pause=0.01)
    servers = tuple(
        worker_server(path, number, app, tls, limits) for number, app in enumerate(apps, 1)
    )
    for server in servers:
        await server.start("127.0.0.1", 0)
    _, port = await distributor.start("127.0.0.1", 0)
    made = Workers(distributor, servers, port)
    await made.until_connected(*range(1, len(apps) + 1))
    try:
        yield made
    finally:
        distributor.close()
        await asyncio.gather(*(server.stop() for server in servers))
        running.cancel()
        await asyncio.wait([running])


def worker_server(
    path: Path, number: int, app: ASGIApp, tls: TlsFiles, limits: Limits | None = None
) -> HttpsServer:
    """Return the server of a worker, which registers at a path when it is started."""

    async def receive(address: str, port: int) -> Listener:
        return PassedConnections(register(path, number), (address, port))

    return HttpsServer(app, tls.certificate, tls.key, limits=limits, listen=receive)
