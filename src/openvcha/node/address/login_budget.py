"""How many connections per second a source may begin before it has ever logged in."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

PER_SECOND: Final = 10.0
"""Each costs the database a process and a TLS handshake, several milliseconds of a core."""
BURST: Final = 200
"""At once, after a pause: as many as a pool opens when its application starts."""
MAX_WAIT_SECONDS: Final = 10.0
"""One more waits this long and is then refused: refused at once, it would only come again."""
KNOWN_SECONDS: Final = 3600.0
"""For how long a source that has logged in is not limited."""
MAX_SOURCES: Final = 1024


class LoginBudget:
    """A budget for each source; one that has logged in within an hour has none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` returns seconds."""
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How many connections count against a source, and when."""
        self._known: OrderedDict[str, float] = OrderedDict()

    def remember(self, source: str) -> None:
        """Record that a source has logged in."""
        _put(self._known, source, self._clock())

    def knows(self, source: str) -> bool:
        """Return whether a source has logged in lately."""
        seen = self._known.get(source)
        return seen is not None and self._clock() - seen < KNOWN_SECONDS

    def take(self, source: str) -> float | None:
        """Count a connection; return the seconds until its turn, None if that is too long.

        One whose turn would be too late does not count.
        """
        if self.knows(source):
            return 0.0
        now = self._clock()
        level, then = self._levels.get(source, (0.0, now))
        level = max(0.0, level - (now - then) * PER_SECOND)
        wait = max(0.0, level + 1 - BURST) / PER_SECOND
        if wait > MAX_WAIT_SECONDS:
            return None
        _put(self._levels, source, (level + 1, now))
        return wait


def _put(table: OrderedDict[str, T], source: str, value: T) -> None:
    table[source] = value
    table.move_to_end(source)
    if len(table) > MAX_SOURCES:
        table.popitem(last=False)
