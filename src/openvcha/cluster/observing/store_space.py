"""How full the store is, cached for some seconds."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from openvcha.store import space
from openvcha.store.errors import StoreError
from openvcha.store.interface import Member
from openvcha.store.space import SpaceStore

CACHE_SECONDS: Final = 10.0
ROOMY_SECONDS: Final = 30.0
ROOMY_PERCENT: Final = 50
"""Up to which use the store is asked more rarely: it does not become full in that time."""
ASK_SECONDS, MEMBER_SECONDS = 1.0, 0.6
"""Timeouts for all members and for one: a lost member must not hide how full the others are."""


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """The largest member's bytes, those in use, and the quota; ``full``: writes are refused."""

    member: str
    size: int
    in_use: int
    quota: int
    full: bool = False

    @property
    def percent(self) -> int:
        """Return the percentage of the quota that is used."""
        return space.percent(self.size, self.quota)


class StoreSpaceProbe:
    """Measures the store's space; what cannot be measured is unknown, and blocks nothing."""

    def __init__(
        self, store: SpaceStore, quota: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._quota = quota
        self._clock = clock
        self._asked: float | None = None
        self._found: StoreSpace | None = None

    async def measure(self, members: Sequence[Member] | None = None) -> StoreSpace | None:
        """Return how full the store was at most some seconds ago; None: unknown.

        ``members`` are those just listed.
        """
        if self._asked is None or self._clock() - self._asked >= self._lasts():
            self._asked = self._clock()
            self._found = await self._ask(members)
        return self._found

    def _lasts(self) -> float:
        found = self._found
        roomy = found is not None and not found.full and found.percent <= ROOMY_PERCENT
        return ROOMY_SECONDS if roomy else CACHE_SECONDS

    async def _ask(self, members: Sequence[Member] | None) -> StoreSpace | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = await space.measure(self._store, MEMBER_SECONDS, members)
        except (StoreError, TimeoutError):
            return None
        one = found.largest
        if one is None:
            return None
        return StoreSpace(one.name, one.size, one.in_use, one.limit(self._quota), found.full)
