"""The services of the active node: it holds the public address, serves the API and runs tasks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import HealthReporter, run_forever
from openvcha.store.address_reports import AddressState
from openvcha.system.structlog_light import structlog

RETRY_SECONDS, MAX_RETRY_SECONDS = 0.1, 0.2
ACQUIRE_RETRY_SECONDS = 0.02

_log = structlog.get_logger(__name__)


class PublicAddress(Protocol):
    """The public address: of a forwarder (address.forwarder), or on an interface (its client)."""

    @property
    def held(self) -> bool:
        """Return whether the address is held."""

    @property
    def state(self) -> AddressState:
        """Return whether the address is held, or what is known about who holds it."""

    async def acquire(self) -> None:
        """Acquire the address. Raises OSError while another node holds it."""

    async def wait_until_lost(self) -> None:
        """Wait until the address is no longer held, although nobody has released it."""

    async def release(self) -> None:
        """Release the address and close all connections at once."""


class ApiControl(Protocol):
    """Control of the API's processes, whose links implement it. Both methods return at once."""

    def serve(self) -> None:
        """Start serving at the public address."""

    def end(self) -> None:
        """Stop serving."""


class ActiveServices:
    """Everything that only the active node runs; starting and stopping are idempotent."""

    def __init__(
        self,
        prepare: Callable[[], Awaitable[None]],
        forwarder: PublicAddress,
        api: ApiControl,
        address: str,
        work: Callable[[], Awaitable[None]],
        *,
        report_health: HealthReporter = lambda *_: None,
        report_address: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """``report_address`` is called when the address may have changed, with whether it leads."""
        self._prepare = prepare
        self._forwarder = forwarder
        self._api = api
        self._address = address
        self._run_tasks = work
        self._report_health = report_health
        self._report_address = report_address
        self._prepared = asyncio.Event()
        self._reachable = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def follow(self, leads: AsyncIterator[bool]) -> None:
        """Run the services only while the latest of ``leads`` is True; stop them when canceled."""
        try:
            async for leading in leads:
                await (self._begin() if leading else self._end())
        finally:
            await self._end()

    async def _begin(self) -> None:
        _log.info("this node is active", address=self._address)
        self._prepared.clear()
        self._reachable.clear()
        self._report_address(True)
        self._running = asyncio.create_task(self._work(), name="active services")

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        _log.info("this node is no longer active", address=self._address)
        running.cancel()
        # Clients first: the rest may have to wait for a store that does not respond.
        self._api.end()
        self._report_address(False)
        await self._forwarder.release()
        await asyncio.gather(running, return_exceptions=True)
        self._api.end()  # either may have started while it was being stopped
        await self._forwarder.release()

    async def _work(self) -> None:
        """Serve and run tasks; neither waits for the other."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._forever("public address", self._hold_address))
            parts.create_task(self._forever("API's orders", self._serve))
            parts.create_task(self._forever("tasks of the active", self._prepare_and_run))

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work``, and restart it at once: without it no client can reach the data."""
        backoff = Backoff(first=RETRY_SECONDS, longest=MAX_RETRY_SECONDS)
        await run_forever(name, work, _log, report_health=self._report_health, backoff=backoff)

    async def _prepare_and_run(self) -> None:
        await self._prepare()
        self._prepared.set()
        await self._run_tasks()

    async def _hold_address(self) -> None:
        """Open the public address of the data at once, and again whenever it is lost."""
        while True:
            await retry_until_free(self._forwarder.acquire)
            self._reachable.set()
            self._report_address(True)
            await self._forwarder.wait_until_lost()
            self._report_address(True)
            _log.warning("the public address is lost", address=self._address)

    async def _serve(self) -> None:
        """Open the API once the data are reachable and the store is prepared."""
        await self._reachable.wait()
        await self._prepared.wait()
        self._api.serve()
        await asyncio.Event().wait()


async def retry_until_free(take: Callable[[], Awaitable[object]]) -> None:
    """Retry ``take`` until another node has released what it acquires."""
    shown = None
    while True:  # not ``repeat``: this ends once it has succeeded
        try:
            await take()
        except OSError as error:
            if str(error) != shown:
                shown = str(error)
                _log.warning("cannot take the public address yet", reason=shown)
            await asyncio.sleep(ACQUIRE_RETRY_SECONDS)
        else:
            return
