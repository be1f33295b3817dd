"""Rings of records, one for each owner: what one owner does removes nothing of another's."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from openvcha.api.structures import AuditInfo
from openvcha.events.ring import MOST, Ring
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

NEVER_MORE: Final = 10_000
MOST_AT_ONCE: Final = 10


class Rows:
    """The rings below ``name``, each of at most ``most`` records.

    With more than ``owners`` of them the one goes that was written to the longest ago. Records are
    numbered through all of them, with ``letter`` in front.
    """

    def __init__(
        self, store: Store, name: str, letter: str, most: int, owners: int = NEVER_MORE
    ) -> None:
        self._store = store
        self._name = name
        self._letter = letter
        self._most = most
        self._owners = owners
        self._total = keys.AUDIT_LAST + name
        self._counts = f"{keys.AUDIT_LAST}{name}/"
        self._one_by_one = asyncio.Lock()

    async def append(self, owner: str, record: AuditInfo) -> None:
        """Write a record as its owner's next one, whoever else writes at the same time."""
        async with self._one_by_one:
            while not await self._try_append(keys.part(owner), record):
                pass

    async def newest(self, count: int) -> list[AuditInfo]:
        """Read the newest records of each owner, the oldest of an owner first."""
        found: list[AuditInfo] = []
        for kv in await self._store.prefix(self._counts):
            ring = self._ring(self._owner(kv))
            last = await _last([kv], ring)
            found += await ring.read(last - count + 1, last)
        return found

    async def sweep(self, oldest: datetime) -> int:
        """Delete records from before ``oldest``, and empty rings; return how many."""
        swept = 0
        for kv in await self._store.prefix(self._counts):
            ring = self._ring(self._owner(kv))
            gone = await ring.sweep(oldest)
            swept += gone
            if gone and not await ring.last():
                await self._store.txn([unchanged(kv)], [Delete(kv.key)])
        return swept

    def _ring(self, owner: str) -> Ring[AuditInfo]:
        return Ring(self._store, f"{keys.AUDIT}{self._name}/{owner}/", AuditInfo, self._most)

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
            gone = await self._most_idle()
            guards += [unchanged(kv) for kv in gone]
            actions += [action for kv in gone for action in self._forget(kv)]
        return (await self._store.txn(guards, actions)).succeeded

    async def _most_idle(self) -> list[KeyValue]:
        """Find who has to make room for one more owner."""
        found = await self._store.prefix(self._counts)
        found.sort(key=lambda kv: kv.mod_revision)
        return found[: max(0, len(found) + 1 - self._owners)][:MOST_AT_ONCE]

    def _forget(self, count: KeyValue) -> Iterable[Action]:
        yield Delete(count.key)
        yield Delete(self._ring(self._owner(count)).prefix, prefix=True)

    async def _total_of(self, totals: Sequence[KeyValue]) -> int:
        """Return the number of the last record; where nobody knows it, what the owners have had."""
        for known in _counted(totals):
            return known
        return sum(_counted(await self._store.prefix(self._counts)))


async def _last(counts: Sequence[KeyValue], ring: Ring[AuditInfo]) -> int:
    """Return the number of a ring's newest record, also where its count cannot be read."""
    for known in _counted(counts):
        return known
    return await ring.last()


def _counted(found: Iterable[KeyValue]) -> Iterable[int]:
    return (count for _, count in readable(found, int) if 0 <= count <= 2 * MOST)


def _still(found: tuple[KeyValue, ...], key: str) -> Compare:
    return unchanged(found[0]) if found else absent(key)
