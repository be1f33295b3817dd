"""How many records somebody may cause in a minute, and how many were left out. Pure."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

MINUTE: Final = 60.0
OTHERS: Final = "others"
MOST_OWNERS: Final = 200
"""Whose shares are counted one by one; all others share one, so that counting has a bound."""
LONGEST_SOURCE: Final = 64
IPV6_PREFIX: Final = 64
"""What one subscriber gets at least: whoever has an address of it has all of them."""

T = TypeVar("T")


@lru_cache(1024)
def source_of(origin: str) -> str:
    """Return whom an address stands for: itself, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address(origin.partition("%")[0])
    except ValueError:
        return origin[:LONGEST_SOURCE]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


@dataclass
class LeftOut(Generic[T]):
    """How many of one owner were left out, and the last of them."""

    owner: str
    count: int
    last: T


@dataclass
class _Share:
    left: int


class Budget(Generic[T]):
    """``each`` a minute for an owner, and ``together`` for all of them."""

    def __init__(self, each: int, together: int, monotonic: Callable[[], float]) -> None:
        self._each = each
        self._together = together
        self._monotonic = monotonic
        self._minute = -1
        self._left = 0
        self._shares: dict[str, _Share] = {}
        self._left_out: dict[str, LeftOut[T]] = {}
        self._due: dict[str, LeftOut[T]] = {}

    def take(self, owner: str, item: T) -> bool:
        """Return whether one more may be kept; else count it."""
        self._turn_over()
        if owner not in self._shares and len(self._shares) >= MOST_OWNERS:
            owner = OTHERS
        share = self._shares.setdefault(owner, _Share(self._each))
        if share.left > 0 and self._left > 0:
            share.left -= 1
            self._left -= 1
            return True
        # Who did not use up his own share is told among the others: there may be thousands.
        owner = OTHERS if share.left > 0 else owner
        found = self._left_out.setdefault(owner, LeftOut(owner, 0, item))
        found.count += 1
        found.last = item
        return False

    @property
    def due(self) -> bool:
        """Return whether there is something to be told with ``left_out``."""
        self._turn_over()
        return bool(self._due)

    def left_out(self) -> list[LeftOut[T]]:
        """Return who was left out in the minutes that are over, each once."""
        self._turn_over()
        due, self._due = self._due, {}
        return list(due.values())

    def _turn_over(self) -> None:
        minute = int(self._monotonic() // MINUTE)
        if minute == self._minute:
            return
        self._minute, self._left = minute, self._together
        for owner, found in self._left_out.items():
            old = self._due.get(owner)
            if old is None and len(self._due) > MOST_OWNERS:
                continue  # nobody has asked for a long time
            count = found.count + (old.count if old else 0)
            self._due[owner] = LeftOut(owner, count, found.last)
        self._shares, self._left_out = {}, {}
