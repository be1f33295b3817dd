"""A fair queue: the next item comes from the least recently served source."""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")
MAX_REMEMBERED_SOURCES: Final = 1024
"""Sources whose last turn is remembered."""


class FairQueue(Generic[T]):
    """Waiting items of many sources; a busy source does not delay the others."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}
        self._last_turns: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def count_of(self, source: str) -> int:
        """Return how many items of a source are waiting."""
        return len(self._queues.get(source, ()))

    def ahead_of(self, source: str) -> int:
        """Return how many items would precede another one of a source."""
        own, since = self.count_of(source), self._last(source)
        others = ((name, len(row)) for name, row in self._queues.items() if name != source)
        return own + sum(min(count, own + (self._last(name) <= since)) for name, count in others)

    def add(self, source: str, item: T) -> None:
        """Add an item."""
        self._queues.setdefault(source, deque()).append(item)

    def next(self) -> T | None:
        """Remove and return the next item, if any."""
        source = min(self._queues, key=self._last, default=None)
        if source is None:
            return None
        item = self._queues[source][0]
        self.discard(source, item)
        self._note(source)
        return item

    def evict_for(self, source: str) -> T | None:
        """Remove and return the newest item of the source with the most.

        None unless that source has at least two items more than ``source``.
        """
        most = max(self._queues, key=lambda name: (self.count_of(name), self._last(name)))
        if self.count_of(most) < self.count_of(source) + 2:
            return None
        item = self._queues[most][-1]
        self.discard(most, item)
        return item

    def discard(self, source: str, item: T) -> None:
        """Remove an item if it is still waiting."""
        row = self._queues.get(source)
        if row is not None and item in row:
            row.remove(item)
            if not row:
                del self._queues[source]

    def _last(self, source: str) -> int:
        """Return the number of a source's last turn, 0 if it had none."""
        return self._last_turns.get(source, 0)

    def _note(self, source: str) -> None:
        self._turns += 1
        self._last_turns[source] = self._turns
        self._last_turns.move_to_end(source)
        if len(self._last_turns) > MAX_REMEMBERED_SOURCES:
            self._last_turns.popitem(last=False)
