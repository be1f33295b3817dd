"""A row for each source: next is the source that was served the longest ago."""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")
MOST_REMEMBERED: Final = 1024
"""Sources of which it is known when they were served."""


class BySource(Generic[T]):
    """What waits, of many sources. One that comes again and again is behind one that does not."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[T]] = {}
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def of(self, source: str) -> int:
        """Return how many of a source wait."""
        return len(self._rows.get(source, ()))

    def before(self, source: str) -> int:
        """Return how many are served before one more of a source."""
        own, since = self.of(source), self._last(source)
        others = ((name, len(row)) for name, row in self._rows.items() if name != source)
        return own + sum(min(count, own + (self._last(name) <= since)) for name, count in others)

    def add(self, source: str, one: T) -> None:
        """Add one that waits."""
        self._rows.setdefault(source, deque()).append(one)

    def next(self) -> T | None:
        """Return what is served next, if anything waits."""
        source = min(self._rows, key=self._last, default=None)
        if source is None:
            return None
        one = self._rows[source][0]
        self.drop(source, one)
        self._note(source)
        return one

    def drop(self, source: str, one: T) -> None:
        """Forget what waits no more, also what was served."""
        row = self._rows.get(source)
        if row is not None and one in row:
            row.remove(one)
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
