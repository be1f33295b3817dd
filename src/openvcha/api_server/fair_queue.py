"""A fair queue: the next item is of the source that was served least recently."""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")
MAX_REMEMBERED_SOURCES: Final = 1024
"""Sources whose last turn is remembered."""


class FairQueue(Generic[T]):
    """Waiting items of many sources; a busy source does not delay the others."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[T]] = {}
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def count_of(self, source: str) -> int:
        """Return how many items of a source wait."""
        return len(self._rows.get(source, ()))

    def ahead_of(self, source: str) -> int:
        """Return how many items come before one more of a source."""
        own, since = self.count_of(source), self._last(source)
        others = ((name, len(row)) for name, row in self._rows.items() if name != source)
        return own + sum(min(count, own + (self._last(name) <= since)) for name, count in others)

    def add(self, source: str, one: T) -> None:
        """Add an item."""
        self._rows.setdefault(source, deque()).append(one)

    def next(self) -> T | None:
        """Remove and return the next item, if any."""
        source = min(self._rows, key=self._last, default=None)
        if source is None:
            return None
        one = self._rows[source][0]
        self.discard(source, one)
        self._note(source)
        return one

    def discard(self, source: str, one: T) -> None:
        """Remove an item, if it still waits."""
        row = self._rows.get(source)
        if row is not None and one in row:
            row.remove(one)
            if not row:
                del self._rows[source]

    def _last(self, source: str) -> int:
        """Return the number of a source's last turn, 0 if it had none."""
        return self._served.get(source, 0)

    def _note(self, source: str) -> None:
        self._turns += 1
        self._served[source] = self._turns
        self._served.move_to_end(source)
        if len(self._served) > MAX_REMEMBERED_SOURCES:
            self._served.popitem(last=False)
