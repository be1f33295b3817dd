"""Limits of connections, in total and per source; a new one may evict the longest idle.

A connection counts from its acceptance, before TLS. It is busy while the server handles a complete
request, and idle otherwise. Connections from sources that have presented a session are evicted
only if no other is idle.
"""

import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from openvcha.system.network.sources import source_of

CLIENT: Final = "client"
"""Key of the connection in the state of each request."""
DESCRIPTOR_DIVISOR: Final = 4
"""The API gets one in this many descriptors; the others are for the store and the database."""

MIN_PER_WORKER: Final = 100
"""One source gets half of them: enough for an office behind one address."""
MAX_RECOGNIZED_SOURCES: Final = 1024
MAX_EVICTIONS_PER_SECOND: Final = 50
"""Per source: each eviction starts TLS, which costs two milliseconds; refusing is free."""


class ClientConnection:
    """One connection; ``source`` is the client's address."""

    def __init__(self, limiter: "ConnectionLimiter", source: str) -> None:
        self._limiter = limiter
        self.source = source
        self.end: Callable[[], object] = abort_nothing
        """Aborts the connection."""
        self.known = False

    @property
    def is_open(self) -> bool:
        """Return whether the connection is open and counted."""
        return self._limiter.holds(self)

    @property
    def is_recognized(self) -> bool:
        """Return whether its source has presented a session before."""
        return self._limiter.recognizes(self.source)

    def mark_recognized(self) -> None:
        """Record that the connection presented a session."""
        self.known = True
        self._limiter.recognize(self.source)

    def set_busy(self, busy: bool) -> None:
        """Record whether a request is being handled."""
        self._limiter.update(self, busy)

    def release(self) -> None:
        """Record that the connection has ended; idempotent."""
        self._limiter.release(self)


class ConnectionLimiter:
    """A limit of ``max_connections`` connections, and half as many from one source."""

    def __init__(
        self, max_connections: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._max_connections = max_connections
        self._max_per_source = max(1, max_connections // 2)
        self._all: set[ClientConnection] = set()
        self._sources: Counter[str] = Counter()
        self._idle: dict[ClientConnection, None] = {}  # the first has been idle the longest
        self._closed = False
        self._second = 0
        self._evictions: Counter[str] = Counter()
        self._recognized: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def recognize(self, source: str) -> None:
        """Remember that a source has presented a session."""
        self._recognized[source] = None
        self._recognized.move_to_end(source)
        if len(self._recognized) > MAX_RECOGNIZED_SOURCES:
            self._recognized.popitem(last=False)

    def recognizes(self, source: str) -> bool:
        """Return whether a source has presented a session before."""
        return source in self._recognized

    def holds(self, client: ClientConnection) -> bool:
        """Return whether a connection is open and counted."""
        return client in self._all

    def admit(self, origin: str) -> ClientConnection | None:
        """Count a new connection, and evict another one if necessary.

        Return None if all are busy, or if a source evicts others too fast.
        """
        if self._closed:
            return None
        source = source_of(origin)
        if not self._make_room_for(source):
            return None
        client = ClientConnection(self, source)
        self._all.add(client)
        self._sources[source] += 1
        self._idle[client] = None
        return client

    def _make_room_for(self, source: str) -> bool:
        own = self._sources[source] >= self._max_per_source
        if not own and len(self._all) < self._max_connections:
            return True
        if not self._may_evict(source):
            return False
        if own:
            return self._abort_one(client for client in self._idle if client.source == source)
        return self.evict_idle()

    def _may_evict(self, source: str) -> bool:
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._evictions.clear()
        self._evictions[source] += 1
        return self._evictions[source] <= MAX_EVICTIONS_PER_SECOND

    def close(self) -> None:
        """Admit no more connections, and abort all, including new ones."""
        self._closed = True
        for client in tuple(self._all):
            self.release(client)
            client.end()

    def evict_idle(self) -> bool:
        """Abort an idle connection of the source with the most; return whether there was one."""
        return self._abort_one(self._of_largest_source(known=False)) or self._abort_one(
            self._of_largest_source(known=True)
        )

    def update(self, client: ClientConnection, busy: bool) -> None:
        """Count a connection as busy, or as idle from now on."""
        if busy:
            self._idle.pop(client, None)
        elif client in self._all:
            self._idle.setdefault(client)

    def release(self, client: ClientConnection) -> None:
        """Stop counting a connection."""
        if client not in self._all:
            return
        self._all.remove(client)
        self._idle.pop(client, None)
        self._sources[client.source] -= 1
        if not self._sources[client.source]:
            del self._sources[client.source]

    def _of_largest_source(self, *, known: bool) -> Iterator[ClientConnection]:
        idle = [client for client in self._idle if client.known is known]
        by_source = Counter(client.source for client in idle)
        largest = max(by_source, key=by_source.__getitem__, default=None)
        return (client for client in idle if client.source == largest)

    def _abort_one(self, clients: Iterable[ClientConnection]) -> bool:
        # Sorting is stable: unrecognized sources first, and of these the longest idle.
        client = min(clients, key=lambda each: each.known, default=None)
        if client is None:
            return False
        self.release(client)
        client.end()
        return True


def part_of_connections(total: int, workers: int) -> int:
    """Return how many connections one of several processes may have; each has its own callers."""
    return min(total, max(MIN_PER_WORKER, -(-total // workers)))


def within_descriptor_limit(wanted: int) -> int:
    """Return how many of the wanted connections this process has descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, descriptors // DESCRIPTOR_DIVISOR))


def abort_nothing() -> None:
    """Abort nothing: the socket has no transport, and will not get one."""
