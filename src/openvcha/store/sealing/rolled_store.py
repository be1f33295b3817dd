"""A sealed store that detects a reset to an older state; see ``roll``.

A record and the roll change in one transaction, so they always agree in a store that only data
nodes have written. A node keeps a roll only after the store has committed it: after a crash, the
kept roll may be older than the store's, but never newer. So if the store's roll is older than the
newest one seen here, the store was reset. Then the newest roll decides: records that match it stay
valid, changed ones are invalid, and both are reported.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from openvcha.store import keys
from openvcha.store.errors import RecordForged
from openvcha.store.interface import (
    Action,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Put,
    Snapshot,
    TxnResult,
    present,
    unchanged,
)
from openvcha.store.sealing import roll
from openvcha.store.sealing.kept import GoodValue
from openvcha.store.sealing.roll import EMPTY, Roll
from openvcha.store.sealing.seal import is_reserved
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.store.sealing.transaction import pins_state
from openvcha.system.structlog_light import structlog

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class RolledStore(SealedStore):
    """A SealedStore that rejects records older than the newest roll; see the module.

    Watches are not checked against the roll: no decision about users or tokens depends on them.
    """

    _newest: Roll | None = None
    _kept_last: tuple[GoodValue, Roll | None] | None = None
    _read_last: tuple[KeyValue, Roll | None] | None = None

    async def get(self, key: str) -> KeyValue | None:
        """Read a key. Raises RecordForged."""
        if not roll.judged(key):
            return await super().get(key)
        known = self._known()
        raw, found = await self._inner.get_many([key, keys.ROLL])
        kv = self._checked(key, raw)
        if kv is None or (await self._counting(found, known)).has(kv):
            return kv
        self._tell(key)
        raise RecordForged(key, raw)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys at one revision; None also for a refused record."""
        if not any(map(roll.judged, names)):
            return await super().get_many(names)
        known = self._known()
        *raw, found = await self._inner.get_many([*names, keys.ROLL])
        counting = await self._counting(found, known)
        return [self._on(counting, kv) for kv in self._sound_ones(names, raw)]

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted, without refused records."""
        read = super().prefix
        if keys_only or not roll.judges_below(prefix):
            return await read(prefix, keys_only=keys_only)
        found, wrong = await self._judged(lambda: read(prefix), list)
        return [kv for kv in found if kv.key not in wrong]

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision; watch from the next one."""
        read = super().snapshot
        if not roll.judges_below(prefix):
            return await read(prefix)
        found, wrong = await self._judged(lambda: read(prefix), lambda seen: seen.items)
        return Snapshot(found.revision, tuple(kv for kv in found.items if kv.key not in wrong))

    async def delete(self, key: str) -> bool:
        """Delete a key, whatever its value, and return whether it existed."""
        if not roll.enrolled(key):
            return await super().delete(key)
        return (await self.txn([present(key)], [Delete(key)])).succeeded

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``; return how many were valid."""
        delete = Delete(prefix, prefix=True)
        if not roll.changes(delete):
            return await super().delete_prefix(prefix)
        return len((await self.txn([], [Get(prefix, prefix=True), delete])).results[0])

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``; see ``SealedStore.txn``."""
        if not any(map(roll.changes, success)):
            return await super().txn(compares, success, failure)
        while True:
            result = await self._enrolled(compares, success, failure)
            if result is not None:
                return result

    async def differing(self) -> tuple[str, ...]:
        """Return the keys of sealed records that differ from the newest roll."""
        found = await self._sealed_ones()
        (held,) = await self._inner.get_many([keys.ROLL])
        counting = await self._counting(held, self._known())
        changed = {key for key, _ in counting.records.items() ^ found.items()}
        return tuple(sorted(changed))

    async def accept(self) -> bool:
        """Accept all records with a valid seal, except older sessions.

        For an administrator who has verified that the store was restored on purpose. Return whether
        it succeeded; False if another writer interfered.
        """
        (held,) = await self._inner.get_many([keys.ROLL])
        counting = await self._counting(held, self._known())
        revision = (await self._inner.snapshot(keys.ROLL)).revision
        new = counting.next(await self._sealed_ones(), revision + 1)
        put = Put(keys.ROLL, roll.write(new))
        return (await super().txn([_as_it_is(held)], [put])).succeeded

    async def follow_roll(self) -> None:
        """Save each new roll until canceled. Raises StoreError."""
        known = self._known()
        seen = await self._inner.snapshot(keys.ROLL)
        held = next((kv for kv in seen.items if kv.key == keys.ROLL), None)
        await self._counting(held, known)
        async with contextlib.aclosing(self.watch(keys.ROLL, seen.revision + 1)) as changes:
            async for _ in changes:
                pass

    async def _enrolled(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action]
    ) -> TxnResult | None:
        """Try once, together with the roll; None: another writer changed the roll."""
        known = self._known()
        new = [c.key for c in compares if roll.enrolled(c.key) and pins_state(c) and not c.operand]
        held, *there = await self._inner.get_many([keys.ROLL, *new])
        counting = await self._counting(held, known)
        # An invalid record must not prevent creating a new one.
        over = {kv.key: unchanged(kv) for kv in there if kv and self._is_old(counting, kv)}
        guards = [over.get(c.key, c) if pins_state(c) else c for c in compares]
        after = counting.after(success)
        puts = [] if after is counting else [Put(keys.ROLL, roll.write(after))]
        result = await super().txn([*guards, _as_it_is(held)], [*success, *puts], failure)
        if result.succeeded:
            return result
        (now,) = await self._inner.get_many([keys.ROLL])
        return None if _as_it_is(now) != _as_it_is(held) else result

    async def _sealed_ones(self) -> dict[str, str]:
        found: list[KeyValue] = []
        for prefix in roll.ENROLLED:
            found += await super().prefix(prefix)
        return {kv.key: roll.digest(kv.value) for kv in found}

    def _is_old(self, counting: Roll, raw: KeyValue) -> bool:
        """Return whether a record has a valid seal but does not match the roll."""
        kv = self._sound(raw.key, raw)
        return kv is not None and not counting.has(kv)

    def _on(self, counting: Roll, kv: KeyValue | None) -> KeyValue | None:
        if kv is None or not roll.judged(kv.key) or counting.has(kv):
            return kv
        self._tell(kv.key)
        return None

    def _tell(self, key: str) -> None:
        """Report an invalid record; a session that the roll has ended is not a forgery."""
        if roll.enrolled(key):
            self._refuse(key)

    async def _judged(
        self, read: Callable[[], Awaitable[T]], items: Callable[[T], Sequence[KeyValue]]
    ) -> tuple[T, frozenset[str]]:
        """Read; return the result with the keys of invalid records.

        The roll is read afterwards, so a change in between looks like a mismatch. Only a mismatch
        that is unchanged when both are read again counts.
        """
        before: object = None
        while True:
            known, found = self._known(), await read()
            (held,) = await self._inner.get_many([keys.ROLL])
            counting = await self._counting(held, known)
            wrong = [kv for kv in items(found) if roll.judged(kv.key) and not counting.has(kv)]
            now = (_as_it_is(held), [unchanged(kv) for kv in wrong])
            if not wrong or now == before:
                for kv in wrong:
                    self._tell(kv.key)
                return found, frozenset(kv.key for kv in wrong)
            before = now

    async def _counting(self, found: KeyValue | None, known: Roll | None) -> Roll:
        """Return the valid roll: the one found, or the known one if that is newer."""
        held = self._readable(found)
        if known is None or _follows(held, known):
            return held or EMPTY
        # A mirror may lag behind a roll that another program of the node has saved.
        again = (await self._inner.snapshot(keys.ROLL)).items
        raw = next((kv for kv in again if kv.key == keys.ROLL), None)
        if _follows(self._readable(raw), known):
            return held or EMPTY  # consistent with what was read before
        if keys.ROLL not in self.refused():
            _log.warning(
                "the store's roll of users is older than the one seen here",
                number=held.number if held else None,
                newest=known.number,
            )
        self._refuse(keys.ROLL)
        return known

    def _readable(self, found: KeyValue | None) -> Roll | None:
        if found is None or is_reserved(found):
            return None  # not its last good value, which may be newer
        try:
            kv = self._open(found)
        except RecordForged:
            return None
        if self._read_last is None or self._read_last[0] is not kv:
            self._read_last = kv, roll.read(kv.value)
        return self._read_last[1]

    def _known(self) -> Roll | None:
        """Return the newest roll that any program of the node has seen."""
        good = self._kept.load(keys.ROLL) if self._kept.keeps(keys.ROLL) else None
        if good is None:
            return self._newest
        if self._kept_last is None or self._kept_last[0] is not good:
            self._kept_last = good, roll.read(good.value)
        kept = self._kept_last[1]
        if kept is not None and (self._newest is None or kept.number > self._newest.number):
            self._newest = kept
        return self._newest

    def _keep(self, key: str, good: GoodValue) -> None:
        """Save a roll ordered by its own number: the store's revision may have been reset."""
        if key != keys.ROLL:
            super()._keep(key, good)
        elif found := roll.read(good.value):
            known = self._known()
            if known is None or found.number > known.number:
                self._newest = found
            super()._keep(key, GoodValue(good.value, found.number))

    async def _reopened(self, raw: KeyValue) -> KeyValue | None:
        """Return the record if the roll accepts it: resealing would enroll it."""
        return await self.get(raw.key)


def _follows(found: Roll | None, known: Roll) -> bool:
    """Return whether a roll may follow a known one."""
    return found is not None and (found.number > known.number or found == known)


def _as_it_is(found: KeyValue | None) -> Compare:
    """Require that the roll is unchanged: valid, forged, reserved or missing."""
    return Compare(keys.ROLL, CompareTarget.MOD, found.mod_revision if found else 0)
