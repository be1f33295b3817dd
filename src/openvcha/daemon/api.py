"""The API process of a data node, which serves only while the service orders it to.

It has its own store client and its own view of the cluster, so clients cannot slow down the
process that leads, runs tasks and holds the public address of the data.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from openvcha.api_server.app import build
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.api_server.server.https import HttpsServer
from openvcha.daemon.active_services import MAX_RETRY_SECONDS, RETRY_SECONDS, retry_until_free
from openvcha.daemon.api_orders import Orders, Report, receive_orders, truncate_reasons
from openvcha.daemon.compose import in_background, keep_refreshed, open_services
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node.layout import API_CERTIFICATE, API_KEY, Layout
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import HealthReporter, Work, run_forever
from openvcha.operations.context import Services
from openvcha.operations.registry import Handlers
from openvcha.store.errors import StoreUnavailable
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

LOOK_SECONDS = 4.0
MISSED_LOOK_SECONDS = 1.0
"""Used while a node has missed a look and its state is not certain yet: that takes 5 s on average,
as if all looks were two seconds apart."""
FIRST_LOOK_SECONDS, FIRST_STANDBY_LOOK_SECONDS = 0.5, 2.0
STANDBY_LOOK_SECONDS = 10.0
"""Keeps a standby informed, so that after a takeover one missed look does not count as down."""
WARM_UP_SECONDS = 5.0
"""How long serving may wait for the first complete look; longer than silence takes to confirm."""

_log = structlog.get_logger(__name__)


class ApiServer(Protocol):
    """An HTTPS server: api_server.server.https.HttpsServer."""

    @property
    def running(self) -> bool:
        """Return whether it serves."""

    async def start(self, address: str, port: int) -> object:
        """Listen on a port. Raises OSError if that is not possible yet."""

    def close(self) -> None:
        """Stop listening at once; running requests continue."""

    async def stop(self) -> None:
        """End running requests within a time limit, after ``close``."""

    async def wait(self) -> None:
        """Wait until the server ends. Raises what ended it."""


class ApiService:
    """The API, served while the service orders it to.

    ``look`` is called repeatedly and returns whether the state of all nodes is known. Serving waits
    for that, up to a time limit.
    """

    def __init__(
        self,
        server: ApiServer,
        address: tuple[str, int],
        look: Callable[[], Awaitable[bool]],
        *,
        report_health: HealthReporter = lambda *_: None,
    ) -> None:
        self._server = server
        self._address = address
        self._look = look
        self._report_health = report_health
        self._running: asyncio.Task[None] | None = None
        self._may_listen = False
        self._warmed_up = asyncio.Event()
        self._complete = False
        self._started = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Return whether it serves, tries to serve or still listens."""
        return self._running is not None or self._may_listen

    @property
    def listens(self) -> bool:
        """Return whether clients can reach it."""
        return self._server.running

    async def follow(self, orders: AsyncIterator[bool]) -> None:
        """Serve only while the last order is True; stop when canceled."""
        looks = run_forever(
            "API: cluster observation", self._look_forever, _log, report_health=self._report_health
        )
        looking = asyncio.create_task(looks, name="looks at the cluster")
        try:
            async for serve in orders:
                await (self._begin() if serve else self._end())
        finally:
            looking.cancel()
            await self._end()
            await asyncio.gather(looking, return_exceptions=True)

    async def _begin(self) -> None:
        if self._running is None:
            _log.info("the API was ordered to serve", address=self._address[0])
            self._may_listen = True
            self._running = asyncio.create_task(self._work(), name="serving")
            self._started.set()

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        _log.info("the API was ordered to stop serving", address=self._address[0])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self._server.close()
        self._may_listen = False
        await self._server.stop()

    async def _work(self) -> None:
        """Serve, and restart at once: without it no client can reach the cluster."""
        backoff = Backoff(first=RETRY_SECONDS, longest=MAX_RETRY_SECONDS)
        await run_forever(
            "API: serving", self._serve, _log, report_health=self._report_health, backoff=backoff
        )

    async def _serve(self) -> None:
        """Listen once the nodes are known; return when the server has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WARM_UP_SECONDS):
                await self._warmed_up.wait()
        if not self._server.running:
            await retry_until_free(lambda: self._server.start(*self._address))
        await self._server.wait()

    async def _look_forever(self) -> None:
        """Look even when no client asks: a node's state is derived from several looks."""

        async def look() -> None:
            self._started.clear()
            self._complete = False
            self._complete = await self._look()
            if self._complete:
                self._warmed_up.set()

        def failed(reason: str) -> None:
            _log.info("cannot observe the cluster now", reason=reason)

        async def pause(_: float) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._started.wait()

        await repeat(look, LOOK_SECONDS, transient=(StoreUnavailable,), failed=failed, pause=pause)

    def _pause(self) -> float:
        if self._warmed_up.is_set():
            serving = LOOK_SECONDS if self._complete else MISSED_LOOK_SECONDS
            return serving if self._running else STANDBY_LOOK_SECONDS
        return FIRST_LOOK_SECONDS if self._running else FIRST_STANDBY_LOOK_SECONDS


async def serve_api(directory: Path) -> None:
    """Run the API of a data node until canceled."""
    async with (
        open_services(directory, mirrors=True) as services,
        in_background(services, _background_work(services)),
    ):
        address = services.identity.public_address, services.identity.ports.api
        look = partial(observe_cluster, services)
        api = ApiService(_server(services), address, look, report_health=services.failing)
        await api.follow(_orders(api, services))


async def observe_cluster(services: Services) -> bool:
    """Observe the cluster; return whether the observation is complete. Raises StoreError."""
    try:
        seen = await services.observe()
    except LookupError:
        return False  # the first node has not written the configuration yet
    return seen.complete and services.observer.node_reports.connected


async def _orders(api: ApiService, services: Services) -> AsyncIterator[bool]:
    """Yield whether to serve, and apply the rest of each order."""

    def report(number: int) -> Report:
        return Report(
            serving=api.serving,
            listens=api.listens,
            number=number,
            failing=truncate_reasons(services.failing.own),
        )

    async with aclosing(receive_orders(Layout(services.directory).api_socket, report)) as orders:
        async for order in orders:
            apply_orders(order, services)
            yield order.serve


def apply_orders(order: Orders, services: Services) -> None:
    """Store what only the service knows, so that this process can report it."""
    services.failing.note_others(order.failing)
    services.observer.note_unreadable(order.unreadable)
    services.observer.note_forged(order.forged)


def _background_work(services: Services) -> Mapping[str, Work]:
    return {
        "API: store endpoints": lambda: keep_refreshed(services.store),
        "API: node reports": services.observer.node_reports.run,
        "API: store copy": services.mirror,
    }


def _server(services: Services) -> HttpsServer:
    identity, root = services.identity, services.directory
    users = Users(services.store)
    sessions = Sessions(
        services.store,
        users,
        idle=timedelta(minutes=identity.sessions.idle_minutes),
        absolute=timedelta(hours=identity.sessions.absolute_hours),
        per_user=identity.sessions.per_user,
    )
    events, audit = EventLog(services.store), AuditLog(services.store)
    app = build(Handlers(services), users, sessions, events=events, audit=audit)
    return HttpsServer(app, root / API_CERTIFICATE, root / API_KEY)
