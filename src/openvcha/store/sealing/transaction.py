"""Transactions that write sealed records.

A seal covers etcd's counters after the write: they are derived from the last read, and the write
is conditional on them. A new key is first reserved, to learn the revision of its creation; then
its value is written, in the requested transaction.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from openvcha.store.errors import OutcomeUnknown, RecordForged, StoreError, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Put,
    Relation,
    Store,
    TxnResult,
    absent,
)
from openvcha.store.sealing.kept import GoodValue
from openvcha.store.sealing.seal import RESERVED, KeyVersion, Seals, is_reserved, seal_kind

MAX_COUNTERS: Final = 4096
TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a key in etcd, for which the next write is sealed."""

    created: int
    version: int
    mod: int
    reserved: bool = False

    def after(self, key: str, lease: int) -> KeyVersion:
        """Return the version of the key after the next write."""
        return KeyVersion(key, self.created, self.version + 1, bool(lease))


class LastCounters:
    """The counters of the keys that were read or written last, at most MAX_COUNTERS."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, Counters] = OrderedDict()

    def get(self, key: str) -> Counters | None:
        """Return the last counters of a key; None if they are unknown."""
        return self._by_key.get(key)

    def note(self, kv: KeyValue) -> Counters:
        """Store and return the counters of a key as it was read."""
        seen = Counters(kv.create_revision, kv.version, kv.mod_revision)
        self.set(kv.key, seen)
        return seen

    def set(self, key: str, seen: Counters) -> None:
        """Store the counters of a key; forget those of the key that was used least recently."""
        self._by_key.pop(key, None)
        self._by_key[key] = seen
        if len(self._by_key) > MAX_COUNTERS:
            self._by_key.popitem(last=False)


@dataclass(frozen=True)
class RecordReader:
    """What a write needs of the store's reader of sealed records."""

    counters: LastCounters
    unsealed: Callable[[KeyValue], KeyValue]
    """Returns a record without its seal. Raises RecordForged."""
    keeps: Callable[[str], bool]
    """Returns whether the node keeps the last good value of a key."""
    keep: Callable[[str, GoodValue], None]
    """Keeps the last good value of a key, if the node keeps one."""


class SealedWriter:
    """Writes sealed records to the store below."""

    def __init__(self, store: Store, seals: Seals, reader: RecordReader) -> None:
        self._store = store
        self._seals = seals
        self._reader = reader
        self._counters = reader.counters

    async def attempt(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action]
    ) -> TxnResult | None:
        """Try once; None after a concurrent write that the conditions did not exclude."""
        puts = [one for one in success if isinstance(one, Put) and seal_kind(one.key)]
        seen: dict[str, Counters] = {}
        for put in puts:
            counters = await self._counters_of(put, compares)
            if counters is None:
                await self._give_back(seen)
                result = await self._store.txn([], failure)
                return replace(result, succeeded=False)
            seen[put.key] = counters
        conditions = [c for c in compares if c.key not in seen or not pins_state(c)]
        conditions += [Compare(key, CompareTarget.MOD, known.mod) for key, known in seen.items()]
        actions = [self._sealed(one, seen) for one in success]
        result = await self._store.txn(conditions, actions, failure)
        if result.succeeded:
            self._note_written(puts, seen, result.revision)
            return result
        try:
            overtaken = await self._overtaken(compares, seen)
        finally:
            await self._give_back(seen)
        return None if overtaken else result

    async def _overtaken(self, compares: Sequence[Compare], seen: dict[str, Counters]) -> bool:
        """Return whether a write failed only because of a concurrent one.

        A key that must be absent is absent again once its reservation is deleted.
        """
        for key, counters in seen.items():
            wanted = _pinned(compares, key)
            if wanted is not None and wanted.operand:
                continue
            now = await self._store.get(key)
            if now is None:
                return True
            if now.mod_revision != counters.mod and (wanted is None or is_reserved(now)):
                return True
        return False

    async def _counters_of(self, put: Put, compares: Sequence[Compare]) -> Counters | None:
        """Return the counters of a key to write; None if a condition cannot hold."""
        wanted = _pinned(compares, put.key)
        if wanted is not None and not wanted.operand:
            return await self._reserve(put)
        if wanted is not None:
            seen = self._counters.get(put.key)
            if seen is None or seen.mod != wanted.operand:
                raw = await self._store.get(put.key)
                seen = self._counters.note(raw) if raw is not None else None
            return seen if seen is not None and seen.mod == wanted.operand else None
        raw = await self._store.get(put.key)
        return await self._reserve(put) if raw is None else self._counters.note(raw)

    async def _reserve(self, put: Put) -> Counters | None:
        """Create the key to learn its revision; None if it has a valid value."""
        reserve = Put(put.key, RESERVED, put.lease)
        for _ in range(TRIES):
            try:
                result = await self._store.txn([absent(put.key)], [reserve], [Get(put.key)])
            except OutcomeUnknown:
                continue  # if it was created, the next attempt finds it
            if result.succeeded:
                return Counters(result.revision, 1, result.revision, reserved=True)
            return self._vacant(result.results[0][0])
        raise StoreUnavailable(f"{put.key}: it is not known whether the key was reserved")

    def _vacant(self, kv: KeyValue) -> Counters | None:
        """Take over a reserved or forged key, which must not block a write."""
        if is_reserved(kv):
            return self._counters.note(kv)
        try:
            self._reader.unsealed(kv)
        except RecordForged:
            return None if self._reader.keeps(kv.key) else self._counters.note(kv)
        return None

    def _sealed(self, action: Action, seen: dict[str, Counters]) -> Action:
        if not isinstance(action, Put) or action.key not in seen:
            return action
        place = seen[action.key].after(action.key, action.lease)
        return replace(action, value=self._seals.seal(place, action.value))

    def _note_written(self, puts: Iterable[Put], seen: dict[str, Counters], revision: int) -> None:
        for put in puts:
            old = seen[put.key]
            self._counters.set(put.key, Counters(old.created, old.version + 1, revision))
            self._reader.keep(put.key, GoodValue(put.value, revision))

    async def _give_back(self, seen: dict[str, Counters]) -> None:
        """Delete reserved keys that were not written; readers ignore any that remain."""
        for key, counters in seen.items():
            if counters.reserved:
                with contextlib.suppress(StoreError):
                    await self._store.txn(
                        [Compare(key, CompareTarget.MOD, counters.mod)], [Delete(key)]
                    )


def pins_state(compare: Compare) -> bool:
    """Return whether a condition pins one state of a key, or its absence."""
    if compare.relation is not Relation.EQUAL:
        return False
    gone = compare.target in {CompareTarget.CREATE, CompareTarget.VERSION} and compare.operand == 0
    return gone or compare.target is CompareTarget.MOD


def require_sealable(compares: Sequence[Compare], failure: Sequence[Action]) -> None:
    """Raise ValueError for a sealed put in ``failure``, or a condition on a sealed value."""
    for compare in compares:
        if compare.target is CompareTarget.VALUE and seal_kind(compare.key):
            raise ValueError(f"{compare.key}: no condition on a value that is sealed")
    for action in failure:
        if isinstance(action, Put) and seal_kind(action.key):
            raise ValueError(f"{action.key}: nothing is sealed where conditions failed")


def _pinned(compares: Sequence[Compare], key: str) -> Compare | None:
    """Return the first condition that pins the state of a key, if there is one."""
    return next((c for c in compares if c.key == key and pins_state(c)), None)
