"""A store that serves frequent reads from memory while its copy is proven fresh.

A watch on all keys of the cluster feeds a copy of some of them, so the copy reflects every write
up to some revision. A quorum read returns the store's current revision: once the copy has reached
it, the copy holds every write acknowledged before that read began, and is fresh for FRESH_SECONDS
from then on. Therefore:

- A write through this object is visible at once: each one voids the proof, whatever its outcome.
  So is a write through another object with the same marks (`write_marks.py`), in any process.
- Another program's write becomes visible at most FRESH_SECONDS after it was acknowledged. A caller
  that must guarantee more (a deleted user can no longer log in) waits that long before it replies.
- Each read of the copy is at one revision, which is never older than that of an earlier read.
- A call of the API (`call_reads.py`) also accepts a proof that began after the call and its own
  writes: a proof that takes long, as under load, serves a call to its end.

Without a proof (the watch is disconnected, lags or was compacted; the copy lacks the key), each
read goes to the store, as without this object.

While the copy is in use, each proof begins before the last one expires, so no reader waits for it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from openvcha.store import keys
from openvcha.store.call_reads import current_call
from openvcha.store.errors import StoreError
from openvcha.store.interface import (
    Action,
    Compare,
    Event,
    EventType,
    KeyValue,
    Snapshot,
    Store,
    TxnResult,
)
from openvcha.store.write_marks import OwnWrites, WriteMarks
from openvcha.system.single_flight import SingleFlight

FRESH_SECONDS: Final = 0.25
RENEW_SECONDS: Final = 0.15
"""Seconds after a proof began: the rest of its time is for the next one."""
IN_USE_SECONDS: Final = 0.05
"""Before a renewal is due: a less frequent reader proves the copy itself, to spare the store."""
CATCH_UP_SECONDS: Final = 0.25
"""How long a copy may make no progress before it has reached the store's revision."""
MAX_CATCH_UP_SECONDS: Final = 2.0
"""How long a copy that makes progress may take: on a busy machine the store takes longer still."""
CALL_SECONDS: Final = 2.0
"""How old a proof may be for a call that began before it: a call may wait for what others do."""
CONCURRENT_PROOFS: Final = 2
"""A reader waits for less than a whole proof that began before it asked."""
BACKOFF_SECONDS: Final = 2.0
"""Pause after the copy lagged: until then, each read would wait in vain."""
ABSENT_KEY: Final = keys.ROOT + "revision"
"""Read only for the store's revision."""
OBSERVED: Final = (
    keys.CLUSTER,
    keys.PATRONI_CONFIG,
    keys.PATRONI_LEADER,
    keys.PATRONI_SYNC,
    keys.OWED,
)
"""The keys that an observation reads: a change of one of them invalidates earlier observations."""
MIRRORED: Final = (*OBSERVED, keys.OPERATION, keys.ROLL, keys.USERS, keys.SESSIONS, keys.TASKS)
"""Keys that nearly every call of the API reads."""


class MirroredKeys:
    """A copy of some keys, fed by the events of all keys. ``names`` ending in ``/`` are prefixes.

    The initial snapshots are taken one by one. The events after the earliest snapshot are applied
    to all of them; once they pass the latest one, the copy is consistent at one revision.
    """

    def __init__(self, snapshots: Iterable[tuple[str, Snapshot]]) -> None:
        made = list(snapshots)
        self._prefixes = tuple(name for name, _ in made if name.endswith("/"))
        self._keys = frozenset(name for name, _ in made).difference(self._prefixes)
        self._items = {kv.key: kv for _, found in made for kv in found.items if self.covers(kv.key)}
        self._lists: dict[tuple[str, bool], list[KeyValue]] = {}
        """What ``prefix`` returned for a whole prefix, until one of its keys changes."""
        self.revision = min(found.revision for _, found in made)
        """Every event up to here has been applied."""
        self.change_number = self.revision
        """Changes with each event of a key in OBSERVED."""

    def covers(self, key: str) -> bool:
        """Return whether the copy has a key, or with a trailing ``/`` all keys below it."""
        return key in self._keys or key.startswith(self._prefixes)

    def get(self, key: str) -> KeyValue | None:
        """Return a covered key; None when it does not exist."""
        return self._items.get(key)

    def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Return all keys that begin with a covered prefix, sorted."""
        known = self._lists.get((prefix, keys_only))
        if known is None:
            found = sorted(key for key in self._items if key.startswith(prefix))
            known = [self._items[key] for key in found]
            if keys_only:
                known = [replace(kv, value=b"") for kv in known]
            if prefix in self._prefixes:
                self._lists[prefix, keys_only] = known
        return known.copy()

    def apply(self, events: Sequence[Event]) -> None:
        """Apply events, in order."""
        for event in events:
            key = event.kv.key
            if event.type is EventType.DELETE:
                self._items.pop(key, None)
            elif self.covers(key):
                self._items[key] = event.kv
            for listed in [one for one in self._lists if key.startswith(one[0])]:
                del self._lists[listed]
            self.revision = max(self.revision, event.kv.mod_revision)
            if key in OBSERVED:
                self.change_number = event.kv.mod_revision


@dataclass(frozen=True)
class _Proof:
    """A copy that holds every write acknowledged before ``begun`` (on the clock).

    ``writes`` is the state of the marks at that time.
    """

    keys: MirroredKeys
    begun: float
    writes: object


class Mirror:
    """A Store over another one; see the module. Without ``follow`` it only passes calls on.

    Write only below ``root``: the watch would not see any other write, so no proof would succeed.
    """

    def __init__(
        self,
        inner: Store,
        names: Sequence[str] = MIRRORED,
        root: str = keys.ROOT,
        clock: Callable[[], float] = time.monotonic,
        *,
        writes: WriteMarks | None = None,
    ) -> None:
        self._inner = inner
        self._names = names
        self._root = root
        self._clock = clock
        self._mirrored: MirroredKeys | None = None
        self._proven: _Proof | None = None
        self._writes: WriteMarks = OwnWrites() if writes is None else writes
        self._backoff_until = 0.0
        self._moved = asyncio.Event()
        self._used = asyncio.Event()
        self._last_used = 0.0
        self._prove = SingleFlight(self._look, CONCURRENT_PROOFS)

    async def follow(self) -> None:
        """Maintain the copy until canceled. Raises StoreError; after Compacted, call it again."""
        renewing = asyncio.create_task(self._renew(), name="proof of the copy")
        try:
            mirrored = MirroredKeys(
                [(name, await self._inner.snapshot(name)) for name in self._names]
            )
            self._mirrored = mirrored
            start = mirrored.revision + 1
            async with contextlib.aclosing(self._inner.watch(self._root, start)) as changes:
                async for events in changes:
                    mirrored.apply(events)
                    self._moved.set()
                    if renewing.done():
                        renewing.result()  # it ends only by an unexpected error
        finally:
            self._mirrored = self._proven = None
            self._moved.set()
            renewing.cancel()
            await asyncio.wait([renewing])

    async def change_number(self) -> int | None:
        """Return a number that differs after each change of OBSERVED; None if it is unknown.

        The call counts as a use of the copy. Raises StoreError.
        """
        mirrored = await self._fresh([])
        return None if mirrored is None else mirrored.change_number

    async def get(self, key: str) -> KeyValue | None:
        """Read a key, as fresh as the module promises."""
        mirrored = await self._fresh([key])
        return await self._inner.get(key) if mirrored is None else mirrored.get(key)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys, in the given order, at one revision."""
        mirrored = await self._fresh(names)
        return (
            await self._inner.get_many(names)
            if mirrored is None
            else list(map(mirrored.get, names))
        )

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted; with ``keys_only`` values are empty."""
        mirrored = await self._fresh([prefix])
        if mirrored is None:
            return await self._inner.prefix(prefix, keys_only=keys_only)
        return mirrored.prefix(prefix, keys_only=keys_only)

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision; always from the store."""
        return await self._inner.snapshot(prefix)

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a value and return the revision. Raises LeaseNotFound."""
        async with self._writing():
            return await self._inner.put(key, value, lease)

    async def delete(self, key: str) -> bool:
        """Delete a key, and return whether it existed."""
        async with self._writing():
            return await self._inner.delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``, and return how many."""
        async with self._writing():
            return await self._inner.delete_prefix(prefix)

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``; all at one revision."""
        async with self._writing():
            return await self._inner.txn(compares, success, failure)

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
        async with self._writing():
            await self._inner.lease_revoke(lease)

    def watch(self, target: str, start_revision: int = 0) -> AsyncGenerator[list[Event], None]:
        """Follow a key, or with a trailing ``/`` all keys below it; always in the store."""
        return self._inner.watch(target, start_revision)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Invalidate the proof, and a proof in progress, once a write is over."""
        try:
            yield
        finally:
            self._writes.add()
            if call := current_call():
                call.since = self._clock()

    async def _fresh(self, names: Sequence[str]) -> MirroredKeys | None:
        """Return the copy if it is fresh and covers these keys. Raises StoreError."""
        mirrored = self._mirrored
        if mirrored is None or not all(map(mirrored.covers, names)):
            return None
        now, proven = self._clock(), self._proven
        if proven is not None:
            if now < proven.begun + FRESH_SECONDS and proven.writes == self._writes.state():
                self._last_used = now
                self._used.set()
                return proven.keys
            call = current_call()
            if call and call.since <= proven.begun and now < proven.begun + CALL_SECONDS:
                return proven.keys
        return None if now < self._backoff_until else await self._prove()

    async def _renew(self) -> None:
        """Renew the proof before it expires, for as long as the copy is in use."""
        while True:
            await self._used.wait()
            self._used.clear()
            proven = self._proven
            if proven is None:
                continue
            due = proven.begun + RENEW_SECONDS
            await asyncio.sleep(due - self._clock())
            if self._proven is proven and self._last_used >= due - IN_USE_SECONDS:
                with contextlib.suppress(StoreError):  # the next reader gets the error
                    await self._prove()

    async def _look(self) -> MirroredKeys | None:
        """Prove the copy fresh, for all callers that asked before this began."""
        mirrored, writes, begun = self._mirrored, self._writes.state(), self._clock()
        if mirrored is None:
            return None
        revision = (await self._inner.snapshot(ABSENT_KEY)).revision
        if not await self._catches_up(mirrored, revision):
            self._backoff_until = self._clock() + BACKOFF_SECONDS
            return None
        if mirrored is self._mirrored and (self._proven is None or self._proven.begun < begun):
            self._proven = _Proof(mirrored, begun, writes)
        return mirrored

    async def _catches_up(self, mirrored: MirroredKeys, revision: int) -> bool:
        """Wait until a copy has reached a revision, as long as it makes progress."""
        deadline = self._clock() + MAX_CATCH_UP_SECONDS
        while mirrored is self._mirrored and mirrored.revision < revision:
            left = min(CATCH_UP_SECONDS, deadline - self._clock())
            before = mirrored.revision
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
            if mirrored.revision == before:
                return False
        return mirrored is self._mirrored
