"""Rate limits of records per owner, with counts of the omitted ones. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MINUTE: Final = 60.0
OTHERS: Final = "others"
MAX_OWNERS: Final = 200
"""Owners that are counted individually; all others share one budget, so memory is bounded."""

T = TypeVar("T")


@dataclass
class Omitted(Generic[T]):
    """The number of an owner's omitted records, and the last of them."""

    owner: str
    count: int
    last: T


@dataclass
class _Share:
    left: int


class RateLimit(Generic[T]):
    """A limit per minute for each owner (``per_owner``), and for all together (``total``)."""

    def __init__(self, per_owner: int, total: int, monotonic: Callable[[], float]) -> None:
        self._per_owner = per_owner
        self._total = total
        self._monotonic = monotonic
        self._minute = -1
        self._left = 0
        self._shares: dict[str, _Share] = {}
        self._omitted: dict[str, Omitted[T]] = {}
        self._due: dict[str, Omitted[T]] = {}

    def take(self, owner: str, item: T) -> bool:
        """Return whether one more record may be stored; else count it."""
        self._turn_over()
        if owner not in self._shares and len(self._shares) >= MAX_OWNERS:
            owner = OTHERS
        share = self._shares.setdefault(owner, _Share(self._per_owner))
        if share.left > 0 and self._left > 0:
            share.left -= 1
            self._left -= 1
            return True
        # Owners below their own limit are counted together: there may be thousands.
        owner = OTHERS if share.left > 0 else owner
        found = self._omitted.setdefault(owner, Omitted(owner, 0, item))
        found.count += 1
        found.last = item
        return False

    @property
    def due(self) -> bool:
        """Return whether ``omitted`` has something to return."""
        self._turn_over()
        return bool(self._due)

    def omitted(self) -> list[Omitted[T]]:
        """Return the omitted records of the past minutes, each owner once."""
        self._turn_over()
        due, self._due = self._due, {}
        return list(due.values())

    def _turn_over(self) -> None:
        minute = int(self._monotonic() // MINUTE)
        if minute == self._minute:
            return
        self._minute, self._left = minute, self._total
        for owner, found in self._omitted.items():
            old = self._due.get(owner)
            if old is None and len(self._due) > MAX_OWNERS:
                continue  # `omitted` has not been called for a long time
            count = found.count + (old.count if old else 0)
            self._due[owner] = Omitted(owner, count, found.last)
        self._shares, self._omitted = {}, {}
