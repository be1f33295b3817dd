"""Who may have a password looked at now: few at once, and no one source takes all the places."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 2
"""Each takes 64 MiB; more at once would only wait for the processor."""
MOST_WAITING: Final = 64
MOST_OF_SOURCE: Final = 4


class Busy(Exception):  # noqa: N818 - a state, not a fault
    """So many wait already that another one is not even queued."""


class Turns:
    """Gives ``AT_ONCE`` places; who needs no ``source`` goes before all who have one."""

    def __init__(self) -> None:
        self._free = AT_ONCE
        self._first: deque[asyncio.Future[None]] = deque()
        self._later: deque[asyncio.Future[None]] = deque()
        self._sources: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, source: str | None) -> AsyncIterator[None]:
        """Have a place during a block. Raises Busy for one source, or all, that want too many."""
        if source is not None:
            if self._sources[source] >= MOST_OF_SOURCE or self._sources.total() >= MOST_WAITING:
                self._forget(source, 0)
                raise Busy
            self._sources[source] += 1
        try:
            await self._wait(self._first if source is None else self._later)
            try:
                yield
            finally:
                self._leave()
        finally:
            if source is not None:
                self._forget(source, 1)

    async def _wait(self, row: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()  # its turn had come already
            raise

    def _leave(self) -> None:
        for row in (self._first, self._later):
            while row:
                turn = row.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return  # those that were canceled are passed over
        self._free += 1

    def _forget(self, source: str, count: int) -> None:
        self._sources[source] -= count
        if self._sources[source] <= 0:
            del self._sources[source]
