"""The API of a data node, a process of its own: it serves exactly while the service says so.

It has a store client and a look at the cluster of its own. Whatever clients do to it, the process
that leads, carries out tasks and holds the public address of the data is not held up.
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
from openvcha.daemon.active_services import LONGEST_SECONDS, RETRY_SECONDS, patiently
from openvcha.daemon.api_orders import Orders, Report, cut_reasons, orders_of
from openvcha.daemon.compose import always, keep_refreshed, services_of
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node import tls_files
from openvcha.node.layout import Layout
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import Told, Work, for_ever
from openvcha.operations.context import Services
from openvcha.operations.registry import Handlers
from openvcha.store.errors import StoreUnavailable
from openvcha.store.structlog_light import structlog

LOOK_SECONDS = 4.0
MISSED_LOOK_SECONDS = 1.0
"""Until it is sure what a node is that has missed one: that is known after 5 s in the mean, as if
all looks were two seconds apart."""
FIRST_LOOK_SECONDS, FIRST_STANDBY_LOOK_SECONDS = 0.5, 2.0
STANDBY_LOOK_SECONDS = 10.0
"""So that a node that takes over knows the others: one that misses its first look is not down."""
KNOWN_SECONDS = 5.0
"""Longer than it takes until silence is sure."""

_log = structlog.get_logger(__name__)


class Server(Protocol):
    """What serves: api_server.server.https.HttpsServer."""

    @property
    def running(self) -> bool: ...

    async def start(self, address: str, port: int) -> object:
        """Listen. Raises OSError while that is not possible."""

    def close(self) -> None:
        """Stop listening at once; running requests go on."""

    async def stop(self) -> None:
        """End running requests within a limit; nobody listens any more."""

    async def wait(self) -> None:
        """Wait until the server ends; raises what ended it."""


class Api:
    """Serves while it is ordered.

    ``look`` is done again and again, and returns whether all nodes are known by now: before that
    nobody is served, for a time.
    """

    def __init__(
        self,
        server: Server,
        address: tuple[str, int],
        look: Callable[[], Awaitable[bool]],
        *,
        told: Told = lambda *_: None,
    ) -> None:
        self._server = server
        self._address = address
        self._look = look
        self._told = told
        self._running: asyncio.Task[None] | None = None
        self._may_listen = False
        self._known = asyncio.Event()
        self._sure = False
        self._begun = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Return whether it serves, tries to, or listens still."""
        return self._running is not None or self._may_listen

    @property
    def listens(self) -> bool:
        """Return whether clients can reach it now."""
        return self._server.running

    async def follow(self, orders: AsyncIterator[bool]) -> None:
        """Serve exactly while ``orders`` says so; end it when canceled."""
        looks = for_ever("API: looks at the cluster", self._look_always, _log, told=self._told)
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
            self._begun.set()

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
        """Begin it anew at once: without it nobody can reach the cluster."""
        backoff = Backoff(first=RETRY_SECONDS, longest=LONGEST_SECONDS)
        await for_ever("API: serving", self._serve, _log, told=self._told, backoff=backoff)

    async def _serve(self) -> None:
        """Return when the server has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_SECONDS):
                await self._known.wait()
        if not self._server.running:
            await patiently(lambda: self._server.start(*self._address))
        await self._server.wait()

    async def _look_always(self) -> None:
        """Look also when nobody asks: what a node is follows from several looks."""
        while True:
            self._begun.clear()
            self._sure = False
            try:
                self._sure = await self._look()
                if self._sure:
                    self._known.set()
            except StoreUnavailable as error:
                _log.info("cannot observe the cluster now", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._begun.wait()

    def _pause(self) -> float:
        if self._known.is_set():
            serving = LOOK_SECONDS if self._sure else MISSED_LOOK_SECONDS
            return serving if self._running else STANDBY_LOOK_SECONDS
        return FIRST_LOOK_SECONDS if self._running else FIRST_STANDBY_LOOK_SECONDS


async def serve_api(directory: Path) -> None:
    """Be the API of a data node until canceled."""
    async with services_of(directory, mirrors=True) as services, always(services, _works(services)):
        address = services.identity.public_address, services.identity.ports.api
        look = partial(look_at, services)
        api = Api(_server(services), address, look, told=services.failing)
        await api.follow(_orders(api, services))


async def look_at(services: Services) -> bool:
    """Look at the cluster; return whether all is known that is to be seen. Raises StoreError."""
    try:
        seen = await services.observe()
    except LookupError:
        return False  # the first node has not written yet what the cluster is
    return seen.whole and services.observer.hearing.listens


async def _orders(api: Api, services: Services) -> AsyncIterator[bool]:
    """Yield whether to serve, and note what else the service tells."""

    def report(number: int) -> Report:
        return Report(
            serving=api.serving,
            listens=api.listens,
            number=number,
            failing=cut_reasons(services.failing.own),
        )

    async with aclosing(orders_of(Layout(services.directory).api_socket, report)) as orders:
        async for order in orders:
            note(order, services)
            yield order.serve


def note(order: Orders, services: Services) -> None:
    """Take over what is only known in the service, for what this process shows."""
    services.failing.note_others(order.failing)
    services.observer.note_unreadable(order.unreadable)
    services.observer.note_forged(order.forged)


def _works(services: Services) -> Mapping[str, Work]:
    return {
        "API: endpoints of the store": lambda: keep_refreshed(services.store),
        "API: facts of the nodes": services.observer.hearing.run,
        "API: copy of the store": services.mirror,
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
    return HttpsServer(app, root / tls_files.API_CERTIFICATE, root / tls_files.API_KEY)
