"""The API, or a part of it, that serves only while the service orders it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from openvcha.daemon.api_processes.orders import Orders, Report, receive_orders, truncate_reasons
from openvcha.daemon.leading.active_services import (
    MAX_RETRY_SECONDS,
    RETRY_SECONDS,
    retry_until_free,
)
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import BackgroundFailures, HealthReporter, run_forever
from openvcha.store.errors import StoreUnavailable
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

OBSERVATION_SECONDS = 6.0
"""With a slow observation, still less than the gap after which earlier probes count no longer."""
MISSED_OBSERVATION_SECONDS = 1.0
"""Used while a node has missed a probe and its silence is not certain yet: without any client, that
takes 6 s on average. Each call that shows the cluster is one more observation."""
FIRST_OBSERVATION_SECONDS, FIRST_STANDBY_OBSERVATION_SECONDS = 0.5, 2.0
STANDBY_OBSERVATION_SECONDS = 10.0
"""Keeps a standby informed, so that after a takeover one missed response does not count as down."""
WARM_UP_SECONDS = 5.0
"""How long serving may wait for the first complete observation; silence is confirmed sooner."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sight:
    """What an observation showed: the state of all nodes (``complete``), with none in doubt."""

    complete: bool = False
    certain: bool = False


class ApiServer(Protocol):
    """A server of clients: `HttpsServer`, or `Distributor` in front of several of them."""

    @property
    def running(self) -> bool:
        """Return whether it serves."""

    async def start(self, address: str, port: int) -> object:
        """Listen on a port. Raises OSError if that is not possible yet."""

    def close(self) -> None:
        """Stop listening at once; running requests continue."""

    async def stop(self) -> None:
        """End running requests within a time limit, after ``close``."""

    async def wait(self) -> bool:
        """Wait until the server ends; return whether only its listener has, which `start` replaces.

        Raises what ended it.
        """


class ApiService:
    """The API, served while the service orders it to.

    ``observe`` is called repeatedly. Serving waits until it is complete, up to a time limit.
    """

    def __init__(
        self,
        server: ApiServer,
        address: tuple[str, int],
        observe: Callable[[], Awaitable[Sight]],
        *,
        report_health: HealthReporter = lambda *_: None,
    ) -> None:
        self._server = server
        self._address = address
        self._observe = observe
        self._report_health = report_health
        self._running: asyncio.Task[None] | None = None
        self._may_listen = False
        self._warmed_up = asyncio.Event()
        self._certain = False
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
        forever = run_forever(
            "API: cluster observation",
            self._observe_forever,
            _log,
            report_health=self._report_health,
        )
        observing = asyncio.create_task(forever, name="observation of the cluster")
        try:
            async for serve in orders:
                await (self._begin() if serve else self._end())
        finally:
            observing.cancel()
            await self._end()
            await asyncio.gather(observing, return_exceptions=True)

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
        """Listen once the nodes are known; return when the server has ended by itself.

        When the process that accepts its connections has ended, or does so for another node, it
        starts again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(WARM_UP_SECONDS):
                await self._warmed_up.wait()
        await self._listen()
        while await self._server.wait():
            _log.info("the API's clients no longer arrive here")
            await asyncio.sleep(RETRY_SECONDS)  # it may be refused at once
            await self._listen()

    async def _listen(self) -> None:
        if not self._server.running:
            await retry_until_free(lambda: self._server.start(*self._address))

    async def _observe_forever(self) -> None:
        """Observe even when no client asks: a node's state is derived from several observations."""

        async def observe() -> None:
            self._started.clear()
            self._certain = False
            seen = await self._observe()
            self._certain = seen.certain
            if seen.complete:
                self._warmed_up.set()

        def failed(reason: str) -> None:
            _log.info("cannot observe the cluster now", reason=reason)

        async def pause(_: float) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._started.wait()

        await repeat(
            observe, OBSERVATION_SECONDS, transient=(StoreUnavailable,), failed=failed, pause=pause
        )

    def _pause(self) -> float:
        if self._warmed_up.is_set():
            serving = OBSERVATION_SECONDS if self._certain else MISSED_OBSERVATION_SECONDS
            return serving if self._running else STANDBY_OBSERVATION_SECONDS
        return FIRST_OBSERVATION_SECONDS if self._running else FIRST_STANDBY_OBSERVATION_SECONDS


async def follow_service(
    api: ApiService,
    socket: Path,
    failing: BackgroundFailures,
    apply: Callable[[Orders], None] = lambda _: None,
) -> None:
    """Serve as the service at a socket orders, and report to it; ``apply`` gets each order."""

    def report(number: int) -> Report:
        return Report(
            serving=api.serving,
            listens=api.listens,
            number=number,
            failing=truncate_reasons(failing.own),
        )

    async def orders() -> AsyncIterator[bool]:
        async with aclosing(receive_orders(socket, report)) as received:
            async for order in received:
                apply(order)
                yield order.serve

    await api.follow(orders())
