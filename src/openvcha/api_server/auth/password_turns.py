"""Who may have a password looked at now: few at once, sources in turn, nobody waits for long."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from openvcha.api_server.by_source import BySource

AT_ONCE: Final = 2
"""Each takes 64 MiB; more at once would only wait for the processor."""
STRANGERS_AT_ONCE: Final = 1
"""So that who has logged in before waits for none of them."""
MOST_WAITING: Final = 64
MOST_OF_SOURCE: Final = 4
LONGEST_SECONDS: Final = 2.0
"""Whose turn is not to come by then is refused at once, and whose has not come by then as well."""
FIRST_GUESS_SECONDS: Final = 0.1
_WEIGHT: Final = 0.2
"""Of the newest time in the mean: one that was slow is soon forgotten."""


class Busy(Exception):  # noqa: N818 - a state, not a fault
    """Another one would wait for too long."""


class Turns:
    """``AT_ONCE`` places; who needs no ``source`` goes before all who have one."""

    def __init__(self) -> None:
        self._free = AT_ONCE
        self._strangers = 0
        self._first: deque[asyncio.Future[None]] = deque()
        self._later: BySource[asyncio.Future[None]] = BySource()
        self._seconds = FIRST_GUESS_SECONDS

    @asynccontextmanager
    async def take(self, source: str | None) -> AsyncIterator[None]:
        """Hold a place during a block. Raises Busy for a source whose turn would come too late."""
        await (self._wait_first() if source is None else self._wait_later(source))
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            yield
        finally:
            self._seconds += _WEIGHT * (clock() - begun - self._seconds)
            self._leave(stranger=source is not None)

    async def _wait_first(self) -> None:
        turn = _turn()
        self._first.append(turn)
        self._go_on()
        await self._wait(turn, stranger=False)

    async def _wait_later(self, source: str) -> None:
        if self._is_full(source):
            raise Busy
        turn = _turn()
        self._later.add(source, turn)
        self._go_on()
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await self._wait(turn, stranger=True)
        except TimeoutError:
            raise Busy from None
        finally:
            self._later.drop(source, turn)

    async def _wait(self, turn: asyncio.Future[None], *, stranger: bool) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave(stranger=stranger)  # its turn had come already
            raise

    def _is_full(self, source: str) -> bool:
        """Return whether one more of a source is one too many, or would wait for too long."""
        if self._later.of(source) >= MOST_OF_SOURCE or len(self._later) >= MOST_WAITING:
            return True
        return self._seconds * self._later.before(source) > LONGEST_SECONDS

    def _leave(self, *, stranger: bool) -> None:
        self._free += 1
        self._strangers -= stranger
        self._go_on()

    def _go_on(self) -> None:
        """Assign free places; those that were canceled are passed over."""
        while self._free:
            first = bool(self._first)
            if not first and self._strangers >= STRANGERS_AT_ONCE:
                return
            turn = self._first.popleft() if first else self._later.next()
            if turn is None:
                return
            if not turn.done():
                turn.set_result(None)
                self._free -= 1
                self._strangers += not first


def _turn() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
