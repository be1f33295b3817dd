"""What the active node does: holds the public address, has the API serve, carries out tasks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import Told, for_ever
from openvcha.store.structlog_light import structlog

RETRY_SECONDS, LONGEST_SECONDS = 0.1, 0.2
TAKE_SECONDS = 0.02

_log = structlog.get_logger(__name__)


class Forwarding(Protocol):
    """The public address of the data: node.address.forwarder.Forwarder."""

    @property
    def held(self) -> bool: ...

    async def acquire(self) -> None:
        """Take the address. Raises OSError while somebody else has it."""

    async def release(self) -> None:
        """Release the address and end all connections at once."""


class Api(Protocol):
    """The API, a process of its own: daemon.api_orders.ApiLink. Both return at once."""

    def serve(self) -> None:
        """Have it serve at the public address."""

    def end(self) -> None:
        """Have it end serving."""


class Duty:
    """Starts and ends everything that only the active does; both may be repeated."""

    def __init__(
        self,
        prepare: Callable[[], Awaitable[None]],
        forwarder: Forwarding,
        api: Api,
        address: str,
        work: Callable[[], Awaitable[None]],
        *,
        told: Told = lambda *_: None,
    ) -> None:
        self._prepare = prepare
        self._forwarder = forwarder
        self._api = api
        self._address = address
        self._work_off = work
        self._told = told
        self._prepared = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def follow(self, leads: AsyncIterator[bool]) -> None:
        """Be on duty exactly while ``leads`` says so; end it when canceled."""
        try:
            async for leading in leads:
                await (self._begin() if leading else self._end())
        finally:
            await self._end()

    async def _begin(self) -> None:
        _log.info("this node is active", address=self._address)
        self._prepared.clear()
        self._running = asyncio.create_task(self._work(), name="duty of the active")

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        _log.info("this node is no longer active", address=self._address)
        running.cancel()
        # Clients go first: the rest may have to wait for a store that does not answer.
        self._api.end()
        await self._forwarder.release()
        await asyncio.gather(running, return_exceptions=True)
        self._api.end()  # both may have been begun while they were ended
        await self._forwarder.release()

    async def _work(self) -> None:
        """Serve and carry out tasks, neither waiting for the other."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._always("serving at the public address", self._serve))
            parts.create_task(self._always("work of the active", self._prepare_and_run))

    async def _always(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Begin it anew at once: without it nobody can reach the data."""
        backoff = Backoff(first=RETRY_SECONDS, longest=LONGEST_SECONDS)
        await for_ever(name, work, _log, told=self._told, backoff=backoff)

    async def _prepare_and_run(self) -> None:
        await self._prepare()
        self._prepared.set()
        await self._work_off()

    async def _serve(self) -> None:
        """Let the data be reached at once, and the API when there is something to show."""
        await patiently(self._forwarder.acquire)
        await self._prepared.wait()
        self._api.serve()
        await asyncio.Event().wait()


async def patiently(take: Callable[[], Awaitable[object]]) -> None:
    """Take what another node may hold still, as soon as it is free."""
    shown = None
    while True:
        try:
            await take()
        except OSError as error:
            if str(error) != shown:
                shown = str(error)
                _log.warning("cannot take the public address yet", reason=shown)
            await asyncio.sleep(TAKE_SECONDS)
        else:
            return
