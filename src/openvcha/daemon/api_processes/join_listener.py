"""The API on the HA network, where new nodes join: a node may have no other network.

It is served beside the API for clients, on the active only. Of several workers, the first serves
it: its connections are few, and new nodes try again while that worker restarts.
"""

import asyncio
from pathlib import Path

from starlette.types import ASGIApp

from openvcha.api_server.server.https import HttpsServer, Limits
from openvcha.daemon.api_processes.ordered_api import ApiServer
from openvcha.node.layout import NODE_KEY, POSTGRES_CERTIFICATE, SERVICE_CA_CERTIFICATE
from openvcha.node.process.supervised_loop import HealthReporter, run_forever
from openvcha.system.structlog_light import structlog

CONNECTIONS = 16
"""In a cluster, at most two nodes join at a time."""
HANDSHAKE_SHARE = 0.05
"""Whoever floods this port takes little time from the clients of the other one."""

_log = structlog.get_logger(__name__)


def join_server(app: ASGIApp, directory: Path) -> HttpsServer:
    """Return the server of new nodes.

    Its certificate is the one of PostgreSQL: it names the HA address, and the authority that
    clients trust has issued it.
    """
    return HttpsServer(
        app,
        directory / POSTGRES_CERTIFICATE,
        directory / NODE_KEY,
        authority=directory / SERVICE_CA_CERTIFICATE,
        limits=Limits(connections=CONNECTIONS, handshake_share=HANDSHAKE_SHARE),
    )


class AlsoJoins:
    """The server of clients, with one of new nodes at ``address``: an ApiServer.

    The second one never delays the first: it listens as soon as it can.
    """

    def __init__(
        self,
        clients: ApiServer,
        joins: ApiServer,
        address: tuple[str, int],
        report_health: HealthReporter = lambda *_: None,
    ) -> None:
        self._clients = clients
        self._joins = joins
        self._address = address
        self._report_health = report_health
        self._listening: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Return whether clients are served."""
        return self._clients.running

    async def start(self, address: str, port: int) -> object:
        """Listen for clients; begin to listen for nodes. Raises OSError as the server does."""
        started = await self._clients.start(address, port)
        if self._listening is None:
            name = "API: joins"
            forever = run_forever(name, self._serve, _log, report_health=self._report_health)
            self._listening = asyncio.create_task(forever, name=name)
        return started

    def close(self) -> None:
        """Stop listening at once."""
        self._clients.close()
        if self._listening is not None:
            self._listening.cancel()
        self._joins.close()

    async def stop(self) -> None:
        """End running requests within a time limit."""
        self.close()
        listening, self._listening = self._listening, None
        if listening is not None:
            await asyncio.wait([listening])
        await asyncio.gather(self._clients.stop(), self._joins.stop())

    async def wait(self) -> bool:
        """Wait until the server of clients ends, as it does."""
        return await self._clients.wait()

    async def _serve(self) -> None:
        """Listen until the server ends. Raises OSError while the address is not usable."""
        if not self._joins.running:
            await self._joins.start(*self._address)
        await self._joins.wait()
