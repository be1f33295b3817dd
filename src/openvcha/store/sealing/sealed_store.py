"""A store in which only data nodes can write the records that grant permissions.

It has the interface of the store below, so the layers above need not know about seals. A record
that fails verification is refused: a read of its key raises RecordForged, a read of several keys
omits it. Refused keys are remembered for a minute, for warnings. See ``transaction`` for writes.
"""

import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from openvcha.api.secret import Secret
from openvcha.store import keys
from openvcha.store.errors import RecordForged
from openvcha.store.interface import (
    Action,
    Compare,
    Event,
    EventType,
    KeyValue,
    Put,
    Snapshot,
    Store,
    TxnResult,
    unchanged,
)
from openvcha.store.sealing.kept import GoodValue, LastGood, NoLastGood
from openvcha.store.sealing.seal import Seals, is_reserved, seal_kind
from openvcha.store.sealing.transaction import (
    LastCounters,
    RecordReader,
    SealedWriter,
    require_sealable,
)
from openvcha.system.structlog_light import structlog

REMEMBERED_SECONDS: Final = 60.0
MAX_REFUSED: Final = 100
MAX_OPENED: Final = 1024
KEYS_SECONDS: Final = 0.05
"""How long a verified record is returned without asking again for the current keys.

New records are always verified, and writes sealed, with the current keys.
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A record verified with these keys: the same object need not be verified again."""

    sealed: KeyValue
    by: Sequence[Secret]
    opened: KeyValue


class SealedStore:
    """A Store over another one; see the module."""

    def __init__(
        self,
        inner: Store,
        seals: Seals,
        kept: LastGood | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._seals = seals
        self._kept = kept or NoLastGood()
        self._clock = clock
        self._counters = LastCounters()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._unsaved: set[str] = set()
        self._opened_last: OrderedDict[str, _Opened] = OrderedDict()
        self._by: Sequence[Secret] = ()
        self._by_until = -math.inf
        reader = RecordReader(self._counters, self._open, self._kept.keeps, self._keep)
        self._writer = SealedWriter(inner, seals, reader)

    def refused(self) -> tuple[str, ...]:
        """Return the keys that failed verification within the last minute, sorted, bounded."""
        since = self._clock() - REMEMBERED_SECONDS
        return tuple(sorted(key for key, when in self._refused.items() if when >= since))

    async def get(self, key: str) -> KeyValue | None:
        """Read a key. Raises RecordForged."""
        return self._checked(key, await self._inner.get(key))

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys at one revision; None also for a refused record."""
        return self._sound_ones(names, await self._inner.get_many(names))

    def _sound_ones(
        self, names: Sequence[str], found: Sequence[KeyValue | None]
    ) -> list[KeyValue | None]:
        return [self._sound(key, kv) for key, kv in zip(names, found, strict=True)]

    def _sound(self, key: str, kv: KeyValue | None) -> KeyValue | None:
        try:
            return self._checked(key, kv)
        except RecordForged:
            return None

    def _checked(self, key: str, kv: KeyValue | None) -> KeyValue | None:
        """Return the value of a key, or its last good value. Raises RecordForged."""
        if seal_kind(key) is None:
            return kv
        if kv is None or is_reserved(kv):
            return self._instead(key, kv)
        try:
            return self._open(kv)
        except RecordForged:
            if instead := self._instead(key, kv):
                return instead
            raise

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted, without refused records."""
        found = await self._inner.prefix(prefix, keys_only=keys_only)
        return found if keys_only else list(self._opened(found))

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision; watch from the next one."""
        found = await self._inner.snapshot(prefix)
        return Snapshot(found.revision, tuple(self._opened(found.items)))

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a value and return the revision. Raises LeaseNotFound."""
        if seal_kind(key) is None:
            return await self._inner.put(key, value, lease)
        return (await self.txn([], [Put(key, value, lease)])).revision

    async def delete(self, key: str) -> bool:
        """Delete a key, whatever its value, and return whether it existed."""
        return await self._inner.delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``, and return how many."""
        return await self._inner.delete_prefix(prefix)

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``; see ``Store.txn``.

        Raises ValueError for unsealable requests: a put in ``failure``, a condition on a value.
        """
        require_sealable(compares, failure)
        while True:
            result = await self._writer.attempt(compares, success, failure)
            if result is not None:
                return TxnResult(
                    result.succeeded,
                    result.revision,
                    tuple(tuple(self._opened(found)) for found in result.results),
                )

    async def lease_grant(self, ttl: int) -> int:
        """Create a lease of ``ttl`` seconds."""
        return await self._inner.lease_grant(ttl)

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease. Raises LeaseNotFound."""
        return await self._inner.lease_keep_alive(lease)

    async def lease_remaining(self, lease: int) -> int:
        """Return for how many seconds a lease remains. Raises LeaseNotFound."""
        return await self._inner.lease_remaining(lease)

    async def lease_revoke(self, lease: int) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        await self._inner.lease_revoke(lease)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        """Follow a key, or all keys below it, without refused records. Raises Compacted."""
        async with contextlib.aclosing(self._inner.watch(target, start_revision)) as changes:
            async for events in changes:
                if good := list(self._good(events)):
                    yield good

    async def repair(self, key: str) -> bool:
        """Restore the last good value of a missing or forged key; return whether it did."""
        raw = await self._inner.get(key)
        with contextlib.suppress(RecordForged):
            if raw is not None and not is_reserved(raw):
                self._open(raw)
                return False
        good = self._instead(key, raw)
        if good is None:
            return False
        return (await self.txn([unchanged(good)], [Put(key, good.value)])).succeeded

    async def monitor(self) -> None:
        """Verify all records, then each change, until canceled. Raises Compacted.

        This detects a forgery even if another program has already repaired it.
        """
        since = (await self._inner.snapshot(keys.CLUSTER)).revision + 1
        await self.verify_all()
        async with contextlib.aclosing(self._inner.watch(keys.ROOT, since)) as changes:
            async for events in changes:
                list(self._good(events))
                for key in {event.kv.key for event in events}:
                    if self._kept.keeps(key):
                        await self.repair(key)

    async def verify_all(self) -> None:
        """Verify all sealed records, and repair those that the node keeps."""
        for prefix in keys.SEALED:
            await self.prefix(prefix)
        for key in (*keys.SEALED, keys.PATRONI_CONFIG):
            if self._kept.keeps(key):
                await self.repair(key)

    async def reseal(self, prefix: str) -> bool:
        """Reseal all records that were sealed with an old key.

        Return whether all are resealed; False if another writer interfered.
        """
        done = True
        for raw in await self._inner.prefix(prefix):
            if seal_kind(raw.key) is None or is_reserved(raw) or not self._seals.is_stale(raw):
                continue
            with contextlib.suppress(RecordForged):
                if kv := await self._reopened(raw):
                    put = Put(kv.key, kv.value, kv.lease)
                    done &= (await self.txn([unchanged(kv)], [put])).succeeded
        return done

    async def _reopened(self, raw: KeyValue) -> KeyValue | None:
        """Return a record to reseal; None if it is gone. Raises RecordForged."""
        return self._open(raw)

    def _opened(self, found: Iterable[KeyValue]) -> Iterable[KeyValue]:
        for kv in found:
            if seal_kind(kv.key) is None:
                yield kv
            elif not is_reserved(kv):
                with contextlib.suppress(RecordForged):
                    yield self._open(kv)

    def _good(self, events: Iterable[Event]) -> Iterable[Event]:
        for event in events:
            if event.type is EventType.DELETE:
                yield event
            else:
                for kv in self._opened([event.kv]):
                    yield replace(event, kv=kv)

    def _open(self, kv: KeyValue) -> KeyValue:
        """Return a record without its seal; cached, since a mirror returns the same object.

        Raises RecordForged.
        """
        last, by = self._opened_last.get(kv.key), self._present_keys()
        if last is not None and last.sealed is kv and last.by is by:
            return last.opened  # the same object, from a mirror
        by = self._seals.known
        if last is not None and last.sealed == kv and last.by is by:
            return last.opened
        opened = self._check(kv)
        if kv.key not in self._unsaved:
            self._opened_last[kv.key] = _Opened(kv, by, opened)
            if len(self._opened_last) > MAX_OPENED:
                self._opened_last.popitem(last=False)
        return opened

    def _present_keys(self) -> Sequence[Secret]:
        """Return keys that were current at most KEYS_SECONDS ago."""
        now = self._clock()
        if now >= self._by_until:
            self._by, self._by_until = self._seals.known, now + KEYS_SECONDS
        return self._by

    def _check(self, kv: KeyValue) -> KeyValue:
        self._counters.note(kv)
        try:
            value = self._seals.unseal(kv)
        except RecordForged as error:
            self._refuse(kv.key)
            raise RecordForged(kv.key, kv) from error
        self._keep(kv.key, GoodValue(value, kv.mod_revision))
        return replace(kv, value=value)

    def _keep(self, key: str, good: GoodValue) -> None:
        """Save a last good value unless a newer one is saved: a response may be old or forged."""
        if self._kept.keeps(key):
            old = self._kept.load(key)
            if old is None or good.revision > old.revision:
                self._save(key, good)

    def _save(self, key: str, good: GoodValue) -> None:
        """Save a value; a full disk costs only this copy."""
        try:
            self._kept.save(key, good)
        except OSError as error:
            if key not in self._unsaved:
                _log.warning("cannot store a record; retrying", key=key, reason=str(error))
            self._unsaved.add(key)
        else:
            self._unsaved.discard(key)

    def _instead(self, key: str, raw: KeyValue | None) -> KeyValue | None:
        """Return the last good value of a missing or forged key, and note the key as refused."""
        good = self._kept.load(key) if self._kept.keeps(key) else None
        if good is None:
            return None
        self._refuse(key)
        found = raw or KeyValue(key, b"", 0, 0, 0)
        return replace(found, value=good.value)

    def _refuse(self, key: str) -> None:
        self._refused.pop(key, None)
        self._refused[key] = self._clock()
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)
