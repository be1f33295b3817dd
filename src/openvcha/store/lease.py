"""Leases that are renewed, and locks: keys held by one, whose ``guard`` fences earlier holders."""

import asyncio
import contextlib
from typing import Self

from openvcha.store.errors import (
    Compacted,
    LeaseNotFound,
    OutcomeUnknown,
    RecordForged,
    StoreError,
    StoreUnavailable,
)
from openvcha.store.interface import (
    Compare,
    Delete,
    EventType,
    KeyValue,
    Put,
    Store,
    absent,
    created_at,
    unchanged,
)

RETRY_SECONDS = 0.2


class RenewedLease:
    """A lease for what its owner writes again and again (``ttl`` in seconds)."""

    def __init__(self, store: Store, ttl: int) -> None:
        self._store = store
        self._ttl = ttl
        self._lease = 0

    async def renewed(self) -> int:
        """Renew the lease, or grant another once it has expired; return it. Raises StoreError."""
        try:
            if self._lease:
                await self._store.lease_keep_alive(self._lease)
                return self._lease
        except LeaseNotFound:
            self._lease = 0
        self._lease = await self._store.lease_grant(self._ttl)
        return self._lease


class LeaseLock:
    """A key held by a lease that is kept alive until ``release``.

    ``lost`` is set as soon as another process may hold the key: the lease was not renewed in
    time, the key was deleted or recreated, or it was released. A suspended process learns this
    late: so make ``guard`` a condition of each write that needs the lock.
    """

    def __init__(self, store: Store, key: str, lease: int, revision: int, ttl: int) -> None:
        self._store = store
        self._lease = lease
        self._ttl = ttl
        self._keeper: asyncio.Task[None] | None = None
        self.key = key
        self.revision = revision
        """The fencing token: it increases with every new holder."""
        self.lost = asyncio.Event()

    @property
    def guard(self) -> Compare:
        """Return the condition that this lock is still held, and not by a later holder."""
        return created_at(self.key, self.revision)

    async def __aenter__(self) -> Self:
        """Hold the key during a block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release the key."""
        await self.release()

    async def release(self) -> None:
        """Release the key at once; if the store is unavailable, the key expires with its lease."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self.lost.set()
        await _abandon(self._store, self._lease)

    def start_renewing(self, expires: float) -> None:
        """Start renewing the lease, which expires at ``expires`` (the loop's time)."""
        self._keeper = asyncio.create_task(self._keep(expires), name=f"keep {self.key}")

    async def _keep(self, expires: float) -> None:
        renewed: float | None = expires
        try:
            while renewed is not None:
                await asyncio.sleep(self._ttl / 3)
                renewed = await self._renew(renewed)
        finally:
            self.lost.set()

    def _is_ours(self, kv: KeyValue) -> bool:
        return kv.create_revision == self.revision and kv.lease == self._lease

    async def _renew(self, expires: float) -> float | None:
        """Renew until it succeeds; return the new expiry, or None when the lock is lost."""
        try:
            async with asyncio.timeout_at(expires):
                while True:
                    started = asyncio.get_running_loop().time()
                    try:
                        await self._store.lease_keep_alive(self._lease)
                        kv = await self._store.get(self.key)
                    except LeaseNotFound:
                        return None
                    except StoreError:
                        await asyncio.sleep(RETRY_SECONDS)  # until `expires`, then it is lost
                    else:
                        ours = kv is not None and self._is_ours(kv)
                        return started + self._ttl if ours else None
        except TimeoutError:
            return None


async def acquire(store: Store, key: str, value: bytes, ttl: int) -> LeaseLock | None:
    """Try once to acquire a key (``ttl`` in seconds); None when another holds it."""
    await _delete_invalid(store, key)
    expires = asyncio.get_running_loop().time() + ttl
    lease = await store.lease_grant(ttl)
    revision: int | None = None
    try:
        revision = await _take(store, key, value, lease)
    finally:
        if revision is None:
            await _abandon(store, lease)
    if revision is None:
        return None
    lock = LeaseLock(store, key, lease, revision, ttl)
    lock.start_renewing(expires)
    return lock


async def campaign(store: Store, key: str, value: bytes, ttl: int) -> LeaseLock:
    """Acquire a key; wait as long as it takes, even while the store is unavailable."""
    while True:
        try:
            lock = await acquire(store, key, value, ttl)
            if lock is not None:
                return lock
            # The value may not be a lock, and then does not expire: so try again after the TTL.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ttl):
                    await _freed(store, key)
        except StoreUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


async def _delete_invalid(store: Store, key: str) -> None:
    """Delete a value that is not a lock: it is forged, or has no lease.

    Overwriting it in place is unsafe: an earlier holder would consider the key its own.
    """
    try:
        kv = await store.get(key)
        none = kv is not None and not kv.lease
    except RecordForged as error:
        kv, none = error.raw, True
    if kv is not None and none:
        with contextlib.suppress(OutcomeUnknown):
            await store.txn([unchanged(kv)], [Delete(key)])


async def _take(store: Store, key: str, value: bytes, lease: int) -> int | None:
    with contextlib.suppress(OutcomeUnknown):  # revoking the lease also stops a late write
        await store.txn([absent(key)], [Put(key, value, lease)])
    kv = None
    with contextlib.suppress(RecordForged):
        kv = await store.get(key)
    return kv.create_revision if kv is not None and kv.lease == lease else None


async def _freed(store: Store, key: str) -> None:
    seen = await store.snapshot(key)
    if all(kv.key != key for kv in seen.items):
        return
    async with contextlib.aclosing(store.watch(key, seen.revision + 1)) as changes:
        try:
            async for events in changes:
                if any(event.type is EventType.DELETE for event in events):
                    return
        except Compacted:
            return  # it may be free: the caller checks


async def _abandon(store: Store, lease: int) -> None:
    with contextlib.suppress(StoreError):  # it expires unless it is renewed
        await store.lease_revoke(lease)
