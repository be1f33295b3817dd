"""A queue for verifying passwords: few at once, sources take turns, and waiting is bounded."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from openvcha.api_server.fair_queue import FairQueue

MAX_CONCURRENT: Final = 2
"""Each takes 64 MiB; more at once would only wait for the processor."""
MAX_UNKNOWN_CONCURRENT: Final = 1
"""For sources that have not logged in before, so that others never wait for them."""
MAX_WAITING: Final = 64
"""For one more, the last request of the source with the most gives way."""
MAX_WAITING_PER_SOURCE: Final = 4
MAX_WAIT_SECONDS: Final = 2.0
"""A request is refused at once if its turn is not expected by then, and at the latest then."""
INITIAL_ESTIMATE_SECONDS: Final = 0.1
_WEIGHT: Final = 0.2
"""Weight of the newest duration in the moving average: a slow one is soon outweighed."""


class QueueFull(Exception):  # noqa: N818 - a condition, not a defect
    """One more request would wait too long."""


_Turn = asyncio.Future[bool]
"""Whether the request got a slot; False if it had to give way."""


class PasswordQueue:
    """``MAX_CONCURRENT`` slots; requests without a ``source`` (known callers) take precedence."""

    def __init__(self) -> None:
        self._free = MAX_CONCURRENT
        self._unknown = 0
        self._priority_queue: deque[_Turn] = deque()
        self._fair_queue: FairQueue[_Turn] = FairQueue()
        self._seconds = INITIAL_ESTIMATE_SECONDS

    @asynccontextmanager
    async def slot(self, source: str | None) -> AsyncIterator[None]:
        """Hold a slot during a block. Raises QueueFull if its turn would come too late."""
        await (self._wait_with_priority() if source is None else self._wait_in_turn(source))
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            yield
        finally:
            self._seconds += _WEIGHT * (clock() - begun - self._seconds)
            self._release(unknown=source is not None)

    async def _wait_with_priority(self) -> None:
        turn = _turn()
        self._priority_queue.append(turn)
        self._dispatch()
        await self._wait(turn, unknown=False)

    async def _wait_in_turn(self, source: str) -> None:
        if self._is_full(source):
            raise QueueFull
        if len(self._fair_queue) >= MAX_WAITING:
            self._make_room_for(source)
        turn = _turn()
        self._fair_queue.add(source, turn)
        self._dispatch()
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._wait(turn, unknown=True)
        except TimeoutError:
            raise QueueFull from None
        finally:
            self._fair_queue.discard(source, turn)

    async def _wait(self, turn: _Turn, *, unknown: bool) -> None:
        try:
            admitted = await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self._release(unknown=unknown)  # it already had its slot
            raise
        if not admitted:
            raise QueueFull

    def _make_room_for(self, source: str) -> None:
        """End the wait of another source's last request. Raises QueueFull if none has more."""
        evicted = self._fair_queue.evict_for(source)
        if evicted is None:
            raise QueueFull
        if not evicted.done():
            evicted.set_result(False)

    def _is_full(self, source: str) -> bool:
        """Return whether one more request of a source is too many, or would wait too long."""
        if self._fair_queue.count_of(source) >= MAX_WAITING_PER_SOURCE:
            return True
        return self._seconds * self._fair_queue.ahead_of(source) > MAX_WAIT_SECONDS

    def _release(self, *, unknown: bool) -> None:
        self._free += 1
        self._unknown -= unknown
        self._dispatch()

    def _dispatch(self) -> None:
        """Assign free slots; skip canceled requests."""
        while self._free:
            first = bool(self._priority_queue)
            if not first and self._unknown >= MAX_UNKNOWN_CONCURRENT:
                return
            turn = self._priority_queue.popleft() if first else self._fair_queue.next()
            if turn is None:
                return
            if not turn.done():
                turn.set_result(True)
                self._free -= 1
                self._unknown += not first


def _turn() -> _Turn:
    return asyncio.get_running_loop().create_future()
