"""Who may be connected: so many in all and by source; who has been idle the longest makes room.

A connection counts from its acceptance on, before TLS. It works while an answer to a whole request
is being made, and is idle else. Who has shown a session goes only when no stranger is idle.
"""

import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from openvcha.events.budget import source_of

GUEST: Final = "guest"
"""In the state of each request: the connection that it came by."""
SHARE_OF_DESCRIPTORS: Final = 4
"""One in so many is for the API; the others are for the store, the database and its clients."""

MOST_RECOGNIZED: Final = 1024
MADE_ROOM_A_SECOND: Final = 50
"""For one source: each begins TLS, which costs two milliseconds; to turn one away costs nothing."""


class Guest:
    """One connection; ``source`` is the address it comes from."""

    def __init__(self, door: "Door", source: str) -> None:
        self._door = door
        self.source = source
        self.end: Callable[[], object] = nothing
        """Cuts the connection off."""
        self.known = False

    @property
    def there(self) -> bool:
        """Return whether it still counts."""
        return self._door.has(self)

    @property
    def familiar(self) -> bool:
        """Return whether somebody with a session came from its source before."""
        return self._door.recognizes(self.source)

    def welcome(self) -> None:
        """Note that somebody with a session came by it."""
        self.known = True
        self._door.recognize(self.source)

    def works(self, works: bool) -> None:
        """Note whether an answer is being made now."""
        self._door.note(self, works)

    def leave(self) -> None:
        """Note that the connection has ended; again it does nothing."""
        self._door.leave(self)


class Door:
    """Counts connections: at most ``most``, and half of them from one source."""

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._most = most
        self._by_source = max(1, most // 2)
        self._all: set[Guest] = set()
        self._sources: Counter[str] = Counter()
        self._idle: dict[Guest, None] = {}  # the first has been idle for the longest
        self._closed = False
        self._second = 0
        self._made_room: Counter[str] = Counter()
        self._recognized: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def recognize(self, source: str) -> None:
        """Remember that somebody with a session came from a source."""
        self._recognized[source] = None
        self._recognized.move_to_end(source)
        if len(self._recognized) > MOST_RECOGNIZED:
            self._recognized.popitem(last=False)

    def recognizes(self, source: str) -> bool:
        """Return whether somebody with a session came from a source before."""
        return source in self._recognized

    def has(self, guest: Guest) -> bool:
        """Return whether a guest is still there."""
        return guest in self._all

    def enter(self, origin: str) -> Guest | None:
        """Let one in, for whom another one may have to go.

        Return None where all are at work, or where a source wants too much room too fast.
        """
        if self._closed:
            return None
        source = source_of(origin)
        if not self._has_room(source):
            return None
        guest = Guest(self, source)
        self._all.add(guest)
        self._sources[source] += 1
        self._idle[guest] = None
        return guest

    def _has_room(self, source: str) -> bool:
        own = self._sources[source] >= self._by_source
        if not own and len(self._all) < self._most:
            return True
        if not self._may_make_room(source):
            return False
        if own:
            return self._cut_off(guest for guest in self._idle if guest.source == source)
        return self.make_room()

    def _may_make_room(self, source: str) -> bool:
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._made_room.clear()
        self._made_room[source] += 1
        return self._made_room[source] <= MADE_ROOM_A_SECOND

    def close(self) -> None:
        """Let nobody in any more, and cut off all who are there, also who has just begun."""
        self._closed = True
        for guest in tuple(self._all):
            self.leave(guest)
            guest.end()

    def make_room(self) -> bool:
        """Cut off one idle connection of the source with the most. Return whether there was one."""
        return self._cut_off(self._of_the_greediest(known=False)) or self._cut_off(
            self._of_the_greediest(known=True)
        )

    def note(self, guest: Guest, works: bool) -> None:
        """Take a guest for one at work, or for one that is idle from now on."""
        if works:
            self._idle.pop(guest, None)
        elif guest in self._all:
            self._idle.setdefault(guest)

    def leave(self, guest: Guest) -> None:
        """Forget a guest."""
        if guest not in self._all:
            return
        self._all.remove(guest)
        self._idle.pop(guest, None)
        self._sources[guest.source] -= 1
        if not self._sources[guest.source]:
            del self._sources[guest.source]

    def _of_the_greediest(self, *, known: bool) -> Iterator[Guest]:
        idle = [guest for guest in self._idle if guest.known is known]
        by_source = Counter(guest.source for guest in idle)
        greediest = max(by_source, key=by_source.__getitem__, default=None)
        return (guest for guest in idle if guest.source == greediest)

    def _cut_off(self, guests: Iterable[Guest]) -> bool:
        # Sorting is stable: strangers first, and of these the one that was idle the longest.
        guest = min(guests, key=lambda each: each.known, default=None)
        if guest is None:
            return False
        self.leave(guest)
        guest.end()
        return True


def affordable(wanted: int) -> int:
    """Return how many of so many connections this process has descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, descriptors // SHARE_OF_DESCRIPTORS))


def nothing() -> None:
    """Cut off nothing: its socket has no transport yet, and gets none any more."""
