"""Who may have a password looked at now: few at once, sources in turn, and nobody waits for long."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 2
"""Each takes 64 MiB; more at once would only wait for the processor."""
STRANGERS_AT_ONCE: Final = 1
"""So that who has logged in before waits for none of them."""
MOST_WAITING: Final = 64
MOST_OF_SOURCE: Final = 4
LONGEST_SECONDS: Final = 2.0
"""Whose turn is not to come by then is refused at once, and whose has not come by then as well."""
MOST_REMEMBERED: Final = 1024
"""Sources of which it is known when they were served."""
FIRST_GUESS_SECONDS: Final = 0.1
_WEIGHT: Final = 0.2
"""Of the newest time in the mean: one that was slow is soon forgotten."""

Row = deque[asyncio.Future[None]]


class Busy(Exception):  # noqa: N818 - a state, not a fault
    """Another one would wait for too long."""


class Turns:
    """Gives ``AT_ONCE`` places; who needs no ``source`` goes before all who have one."""

    def __init__(self) -> None:
        self._free = AT_ONCE
        self._strangers = 0
        self._first: Row = deque()
        self._later = _Sources()
        self._seconds = FIRST_GUESS_SECONDS

    @asynccontextmanager
    async def take(self, source: str | None) -> AsyncIterator[None]:
        """Have a place during a block. Raises Busy for a source whose turn would come too late."""
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
        expected = self._seconds * self._later.before(source)
        if self._later.is_full(source) or expected > LONGEST_SECONDS:
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

    def _leave(self, *, stranger: bool) -> None:
        self._free += 1
        self._strangers -= stranger
        self._go_on()

    def _go_on(self) -> None:
        """Give free places away; those that were canceled are passed over."""
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


class _Sources:
    """Who waits, a row for each source; next is the source that was served the longest ago."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    def is_full(self, source: str) -> bool:
        """Return whether one more of a source, or of all, is too many."""
        waiting = sum(map(len, self._rows.values()))
        return waiting >= MOST_WAITING or len(self._rows.get(source, ())) >= MOST_OF_SOURCE

    def before(self, source: str) -> int:
        """Return how many are served before one more of a source."""
        own, since = len(self._rows.get(source, ())), self._last(source)
        others = ((name, len(row)) for name, row in self._rows.items() if name != source)
        return own + sum(min(count, own + (self._last(name) <= since)) for name, count in others)

    def add(self, source: str, turn: asyncio.Future[None]) -> None:
        """Have one more wait."""
        self._rows.setdefault(source, deque()).append(turn)

    def next(self) -> asyncio.Future[None] | None:
        """Return who is served next, if anybody waits."""
        source = min(self._rows, key=self._last, default=None)
        if source is None:
            return None
        turn = self._rows[source][0]
        self.drop(source, turn)
        self._note(source)
        return turn

    def drop(self, source: str, turn: asyncio.Future[None]) -> None:
        """Forget one that waits no more, also one that was served."""
        row = self._rows.get(source)
        if row is not None and turn in row:
            row.remove(turn)
            if not row:
                del self._rows[source]

    def _last(self, source: str) -> int:
        """Return the number of a source's last turn, 0 where it had none."""
        return self._served.get(source, 0)

    def _note(self, source: str) -> None:
        self._turns += 1
        self._served[source] = self._turns
        self._served.move_to_end(source)
        if len(self._served) > MOST_REMEMBERED:
            self._served.popitem(last=False)


def _turn() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
