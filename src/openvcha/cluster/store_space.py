"""How full the store is, for whoever looks at the cluster: asked again only after some seconds."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from openvcha.store import space
from openvcha.store.errors import StoreError
from openvcha.store.interface import Member
from openvcha.store.space import RoomyStore

AGAIN_SECONDS: Final = 10.0
ASK_SECONDS, MEMBER_SECONDS = 1.0, 0.6
"""For all of it, and for one member: one that is lost must not hide how full the others are."""


@dataclass(frozen=True, slots=True)
class Space:
    """The largest member's bytes, those in use, and the quota; ``full``: nobody can write."""

    member: str
    size: int
    in_use: int
    quota: int
    full: bool = False

    @property
    def percent(self) -> int:
        """Return how much of the quota is taken."""
        return space.percent(self.size, self.quota)


class SpaceLooks:
    """Looks at the store's room; what cannot be asked is unknown, and hinders nobody."""

    def __init__(
        self, store: RoomyStore, quota: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._quota = quota
        self._clock = clock
        self._asked: float | None = None
        self._found: Space | None = None

    async def look(self, members: Sequence[Member] | None = None) -> Space | None:
        """Return how full the store is, as it was some seconds ago at most; None: unknown.

        ``members`` are those just listed.
        """
        if self._asked is None or self._clock() - self._asked >= AGAIN_SECONDS:
            self._asked = self._clock()
            self._found = await self._ask(members)
        return self._found

    async def _ask(self, members: Sequence[Member] | None) -> Space | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = await space.look(self._store, MEMBER_SECONDS, members)
        except (StoreError, TimeoutError):
            return None
        one = found.largest
        if one is None:
            return None
        return Space(one.name, one.size, one.in_use, one.limit(self._quota), found.full)
