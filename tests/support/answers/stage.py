"""A SIMULATED cluster behind the real operations, protocols and TLS socket.

It runs in the event loop of another thread, so that a test can call it as any client does,
including with the official SDK. ``speed`` makes time pass faster there; with ``works`` tasks are
carried out.
"""

import asyncio
import contextlib
import selectors
import shutil
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import requests
from tests.support.edge import (
    ADMINISTRATOR,
    NOBODY,
    PASSWORD,
    READER,
    TlsFiles,
    cheap_passwords,
    make_tls,
)
from tests.support.simulated.process import Process
from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.secret import Secret
from openvcha.api_server.app import build
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.api_server.server.https import HttpsServer, Limits
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node.layout import API_CERTIFICATE, SERVICE_CA_CERTIFICATE
from openvcha.operations.registry import Handlers
from openvcha.store.interface import Store

T = TypeVar("T")
Begin = Callable[[ClusterScenario], Awaitable[None]]
ROLES = {
    ADMINISTRATOR: UserRole.ADMINISTRATOR,
    READER: UserRole.READ_ONLY,
    NOBODY: UserRole.NO_ACCESS,
}
ANSWER_SECONDS = 60.0
SPEED = 10
PATIENT = Limits(keep_alive_seconds=3600, handshake_seconds=600, request_seconds=600.0)


class _Selector(selectors.DefaultSelector):
    """A selector that waits for only a fraction of the requested time."""

    def __init__(self, speed: int) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout / self._speed if timeout else timeout)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop with real I/O whose clock runs faster than real time."""

    def __init__(self, speed: int) -> None:
        super().__init__(_Selector(speed))
        self._speed = speed

    def time(self) -> float:
        return time.monotonic() * self._speed


class ServedCluster:
    """A cluster behind a server; ``scene`` is the simulation itself."""

    def __init__(
        self, others: "ServedClusters", tls: TlsFiles, *, speed: int = 1, works: bool = False
    ) -> None:
        self.others = others
        self.tls = tls
        self._works = works
        self.port = 0
        self.scene = ClusterScenario()
        self.scene.world.root = others.directory_of(tls)
        self.tokens: dict[str, str] = {}
        self._loop = _Loop(speed)
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage")
        self._ending = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @property
    def where(self) -> str:
        """Return host and port of the server."""
        return f"127.0.0.1:{self.port}"

    @cached_property
    def http(self) -> httpx2.Client:
        """Return a client that speaks to it as any HTTP library would."""
        trust = ssl.create_default_context(cafile=self.tls.authority)
        return httpx2.Client(base_url=f"https://{self.where}", verify=trust, timeout=None)

    @cached_property
    def requests(self) -> requests.Session:
        """Return the requests session that the official SDK uses."""
        session = requests.Session()
        session.trust_env = False  # or REQUESTS_CA_BUNDLE would override `verify`
        session.verify = str(self.tls.authority)
        return session

    @property
    def process(self) -> Process:
        """Return the simulated process that serves."""
        return self._process

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the cluster's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    def open(self, begin: Begin) -> None:
        """Start the cluster and its server."""
        self._thread.start()
        try:
            self.run(self._open(begin))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop everything, also what comes after something that fails."""
        with contextlib.ExitStack() as ends:
            ends.callback(self._loop.close)
            ends.callback(self._thread.join)
            ends.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            ends.callback(lambda: self.run(self._close()))
            ends.callback(self.requests.close)
            ends.callback(self.http.close)

    async def _open(self, begin: Begin) -> None:
        await begin(self.scene)
        self._process = self.scene.process()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._serving = asyncio.create_task(self._serve(ready), name="stage")
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            await self._serving

    async def _serve(self, ready: asyncio.Future[None]) -> None:
        async with self._served() as port:
            self.port = port
            ready.set_result(None)
            await self._ending.wait()

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[int]:
        services = self._process.services
        store = services.store
        users = Users(store, passwords=cheap_passwords())
        sessions = Sessions(store, users)
        await self._admit(users, sessions)
        app = build(
            Handlers(services), users, sessions, events=EventLog(store), audit=AuditLog(store)
        )
        server = HttpsServer(app, self.tls.certificate, self.tls.key, limits=PATIENT)
        _, port = await server.start("127.0.0.1", 0)
        if self._works:
            self._working = asyncio.create_task(self._process.runner().run(), name="runner")
        try:
            yield port
        finally:
            await server.stop()

    async def _admit(self, users: Users, sessions: Sessions) -> None:
        for name, role in ROLES.items():
            user = await users.add(name, Secret(PASSWORD), role)
            self.tokens[name] = (await sessions.create(user)).reveal()

    async def _close(self) -> None:
        self._ending.set()
        if self._serving:
            await asyncio.wait([self._serving])
        try:
            await self.scene.end()
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    @property
    def store(self) -> Store:
        """Return the store itself, unaffected by injected faults."""
        return self.scene.world.store


class ServedClusters:
    """The stages of a module: one for each initial state, kept until the module ends."""

    def __init__(self, directory: Path, tls: TlsFiles) -> None:
        self._directory = directory
        self._tls = tls
        self._open: dict[tuple[Begin, TlsFiles], ServedCluster] = {}

    def __call__(self, begin: Begin) -> ServedCluster:
        """Return the stage with this initial state."""
        return self._kept(begin, self._tls)

    def stranger(self, begin: Begin) -> ServedCluster:
        """Return a stage with its own certificate."""
        directory = self._directory / "stranger"
        if not directory.exists():
            directory.mkdir()
            self._stranger = make_tls(directory)
        return self._kept(begin, self._stranger)

    @contextlib.contextmanager
    def working(self, begin: Begin) -> Iterator[ServedCluster]:
        """Return a stage for a single test that carries tasks out, quickly."""
        stage = ServedCluster(self, self._tls, speed=SPEED, works=True)
        stage.open(begin)
        try:
            yield stage
        finally:
            stage.close()

    def close(self) -> None:
        """Close all servers, even if closing one fails."""
        with contextlib.ExitStack() as ends:
            for stage in self._open.values():
                ends.callback(stage.close)

    def directory_of(self, tls: TlsFiles) -> Path:
        """Return a node's directory with the files that its service reads."""
        directory = self._directory / f"node with {tls.certificate.parent.name}"
        for name, source in (
            (SERVICE_CA_CERTIFICATE, tls.authority),
            (API_CERTIFICATE, tls.certificate),
        ):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, directory / name)
        return directory

    def _kept(self, begin: Begin, tls: TlsFiles) -> ServedCluster:
        if (begin, tls) not in self._open:
            stage = ServedCluster(self, tls)
            stage.open(begin)
            self._open[begin, tls] = stage
        return self._open[begin, tls]
