"""Rings of records, one per owner: an owner never displaces another's records."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import unquote

import msgspec

from openvcha.api.structures import AuditInfo
from openvcha.events.ring import MAX_NUMBER, Ring
from openvcha.store import keys
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    Store,
    absent,
    unchanged,
)
from openvcha.store.records import readable

UNLIMITED_OWNERS: Final = 10_000
MAX_EVICTED: Final = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of rings: ``most`` records in each, and ``owners`` rings.

    ``group_of`` returns an owner's group; without it, each owner is its own group.
    """

    most: int
    owners: int = UNLIMITED_OWNERS
    group_of: Callable[[str], str] = str


class OwnerRings:
    """The rings below ``name``.

    Above the limit of rings, one of the largest group of owners is deleted: the one with the fewest
    records, of these the youngest. So a flood from one network, or of owners with few records,
    displaces only its own. Records are numbered across all rings, with the prefix ``letter``.
    """

    def __init__(self, store: Store, name: str, letter: str, limits: Limits) -> None:
        self._store = store
        self._name = name
        self._letter = letter
        self._limits = limits
        self._total = keys.AUDIT_LAST + name
        self._counts = f"{keys.AUDIT_LAST}{name}/"
        self._one_by_one = asyncio.Lock()

    async def append(self, owner: str, record: AuditInfo) -> None:
        """Append a record to its owner's ring, even while others write at the same time."""
        async with self._one_by_one:
            while not await self._try_append(keys.part(owner), record):
                pass

    async def newest(self, count: int) -> list[AuditInfo]:
        """Read the newest records of each owner, each owner's oldest first."""
        found: list[AuditInfo] = []
        for kv in await self._store.prefix(self._counts):
            ring = self._ring(self._owner(kv))
            last = await _last([kv], ring)
            found += await ring.read(last - count + 1, last)
        return found

    async def sweep(self, oldest: datetime) -> int:
        """Delete records from before ``oldest``, and empty rings; return how many records."""
        swept = 0
        for kv in await self._store.prefix(self._counts):
            ring = self._ring(self._owner(kv))
            gone = await ring.sweep(oldest)
            swept += gone
            if gone and not await ring.last():
                await self._store.txn([unchanged(kv)], [Delete(kv.key)])
        return swept

    def _ring(self, owner: str) -> Ring[AuditInfo]:
        return Ring(self._store, f"{keys.AUDIT}{self._name}/{owner}/", AuditInfo, self._limits.most)

    def _owner(self, count: KeyValue) -> str:
        return count.key.removeprefix(self._counts)

    async def _try_append(self, owner: str, record: AuditInfo) -> bool:
        own, ring = self._counts + owner, self._ring(owner)
        (totals, counts) = (await self._store.txn([], [Get(self._total), Get(own)])).results
        total = await self._total_of(totals)
        last = await _last(counts, ring)
        numbered = msgspec.structs.replace(record, id=f"{self._letter}{total + 1}")
        actions = [
            Put(self._total, str(total + 1).encode()),
            Put(own, str(last + 1).encode()),
            *ring.put(last + 1, numbered),
        ]
        guards = [_still(totals, self._total), _still(counts, own)]
        if not counts:
            gone = await self._to_evict()
            guards += [unchanged(kv) for kv in gone]
            actions += [action for kv in gone for action in self._forget(kv)]
        return (await self._store.txn(guards, actions)).succeeded

    async def _to_evict(self) -> list[KeyValue]:
        """Return the owners to evict to make room for one more."""
        left = list(await self._store.prefix(self._counts))
        groups = {kv.key: self._limits.group_of(unquote(self._owner(kv))) for kv in left}
        sizes = Counter(groups.values())
        evicted: list[KeyValue] = []
        while len(left) >= self._limits.owners and len(evicted) < MAX_EVICTED:
            gone = min(
                left,
                key=lambda kv: (-sizes[groups[kv.key]], self._records(kv), -kv.create_revision),
            )
            left.remove(gone)
            sizes[groups[gone.key]] -= 1
            evicted.append(gone)
        return evicted

    def _records(self, count: KeyValue) -> int:
        """Return how many records a ring has, at most; 0 if its count is unreadable."""
        return min(sum(_counted([count])), self._limits.most)

    def _forget(self, count: KeyValue) -> Iterable[Action]:
        yield Delete(count.key)
        yield Delete(self._ring(self._owner(count)).prefix, prefix=True)

    async def _total_of(self, totals: Sequence[KeyValue]) -> int:
        """Return the number of the last record; if it is unreadable, the sum of all rings."""
        for known in _counted(totals):
            return known
        return sum(_counted(await self._store.prefix(self._counts)))


async def _last(counts: Sequence[KeyValue], ring: Ring[AuditInfo]) -> int:
    """Return the number of a ring's newest record, even if its count is unreadable."""
    for known in _counted(counts):
        return known
    return await ring.last()


def _counted(found: Iterable[KeyValue]) -> Iterable[int]:
    return (count for _, count in readable(found, int) if 0 <= count <= 2 * MAX_NUMBER)


def _still(found: tuple[KeyValue, ...], key: str) -> Compare:
    return unchanged(found[0]) if found else absent(key)
