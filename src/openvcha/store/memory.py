"""A SIMULATED store for tests of the layers above: in memory, in one process.

Transactions, revisions, leases and watches behave like etcd's; the same tests run on both. Leases
expire by the event loop's clock, so that virtual time works.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from openvcha.store.account import Account
from openvcha.store.errors import Compacted, LeaseNotFound, StoreError
from openvcha.store.interface import (
    Action,
    Compare,
    CompareTarget,
    Delete,
    Event,
    EventType,
    Get,
    KeyValue,
    Permission,
    Put,
    Relation,
    Snapshot,
    TxnResult,
)

MAX_ACTIONS = 128

_HOLDS: dict[Relation, Callable[[int | bytes, int | bytes], bool]] = {
    Relation.EQUAL: lambda found, operand: found == operand,
    Relation.NOT_EQUAL: lambda found, operand: found != operand,
    Relation.GREATER: lambda found, operand: found > operand,  # type: ignore[operator]  # same type
    Relation.LESS: lambda found, operand: found < operand,  # type: ignore[operator]  # same type
}


@dataclass
class _Lease:
    ttl: int
    timer: asyncio.TimerHandle


class MemoryAccounts:
    """Simulated accounts: recorded, but not required."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Account, Sequence[Permission]]] = {}

    async def enable_auth(self, own: Account) -> None:
        """Record the account with all permissions."""
        await self.grant(own, [])

    async def list_names(self) -> frozenset[str]:
        """Return the names of all accounts."""
        await _yield_to_others()
        return frozenset(self.known)

    async def grant(self, account: Account, permissions: Sequence[Permission]) -> None:
        """Record an account, replacing one of the same name."""
        await _yield_to_others()
        self.known[account.name] = account, permissions

    async def delete(self, name: str) -> None:
        """Forget an account."""
        await _yield_to_others()
        self.known.pop(name, None)

    async def grant_all(self, account: Account) -> None:
        """Record an account with all permissions."""
        await self.grant(account, [])

    async def revoke_others(
        self, own: Account | None, others: Mapping[str, Sequence[Permission]]
    ) -> None:
        """Forget all other accounts, and record these permissions."""
        await _yield_to_others()
        spared: dict[str, tuple[Account, Sequence[Permission]]] = {}
        if own and own.name in self.known:
            spared[own.name] = self.known[own.name][0], ()
        for name, permissions in others.items():
            if name in self.known:
                spared[name] = self.known[name][0], permissions
        self.known.clear()
        self.known.update(spared)


class MemoryStore:
    """A simulated Store in the memory of this process."""

    def __init__(self) -> None:
        self._accounts = MemoryAccounts()
        self._keys: dict[str, KeyValue] = {}
        self._history: list[Event] = []
        self._compacted = 0
        self._changed = asyncio.Event()
        self._leases: dict[int, _Lease] = {}
        self._lease_ids = count(1)
        self.revision = 1

    @property
    def accounts(self) -> MemoryAccounts:
        """Return the simulated accounts."""
        return self._accounts

    async def get(self, key: str) -> KeyValue | None:
        """Read a key."""
        await _yield_to_others()
        return self._keys.get(key)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys, in the given order, at one revision."""
        await _yield_to_others()
        return [self._keys.get(name) for name in names]

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted."""
        await _yield_to_others()
        found = self._find(prefix, prefix=True)
        return [replace(kv, value=b"") for kv in found] if keys_only else list(found)

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision."""
        await _yield_to_others()
        return Snapshot(self.revision, self._find(prefix, prefix=True))

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a value and return the revision. Raises LeaseNotFound."""
        return (await self.txn([], [Put(key, value, lease)])).revision

    async def delete(self, key: str) -> bool:
        """Delete a key, and return whether it existed."""
        return bool((await self.txn([], [Get(key), Delete(key)])).results[0])

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``, and return how many."""
        result = await self.txn([], [Get(prefix, prefix=True), Delete(prefix, prefix=True)])
        return len(result.results[0])

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``."""
        await _yield_to_others()
        for branch in (success, failure):
            _check_branch(branch)
        succeeded = all(self._holds(compare) for compare in compares)
        actions = success if succeeded else failure
        for action in actions:
            if isinstance(action, Put) and action.lease:
                self._lease(action.lease)
        before = len(self._history)
        results = tuple(self._apply(action, self.revision + 1) for action in actions)
        self._commit(before)
        return TxnResult(succeeded, self.revision, results)

    async def lease_grant(self, ttl: int) -> int:
        """Create a lease of ``ttl`` seconds."""
        if ttl <= 0:
            raise StoreError("a lease needs a positive time to live")
        lease = next(self._lease_ids)
        self._leases[lease] = _Lease(ttl, self._timer(lease, ttl))
        return lease

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease. Raises LeaseNotFound."""
        found = self._lease(lease)
        found.timer.cancel()
        found.timer = self._timer(lease, found.ttl)
        return found.ttl

    async def lease_remaining(self, lease: int) -> int:
        """Return for how many seconds a lease remains, rounded down. Raises LeaseNotFound."""
        left = self._lease(lease).timer.when() - asyncio.get_running_loop().time()
        return max(0, int(left))

    async def lease_revoke(self, lease: int) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        self._lease(lease).timer.cancel()
        self._expire(lease)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        """Follow a key, or with a trailing ``/`` all keys below it. Raises Compacted."""
        following = start_revision or self.revision + 1
        while True:
            if following <= self._compacted:
                raise Compacted(self._compacted + 1)
            changed = self._changed
            events = self._events(target, following)
            if events:
                following = events[-1].kv.mod_revision + 1
                yield events
            else:
                following = max(following, self.revision + 1)
                await changed.wait()

    async def compact(self, revision: int) -> None:
        """Compact the history before ``revision``, as etcd does periodically."""
        self._compacted = revision - 1
        self._history = [event for event in self._history if event.kv.mod_revision >= revision]

    def _events(self, target: str, following: int) -> list[Event]:
        # The history is in order, and every watcher reads it after each change.
        first = bisect_left(self._history, following, key=lambda event: event.kv.mod_revision)
        return [event for event in self._history[first:] if _matches(target, event.kv.key)]

    def _find(self, key: str, *, prefix: bool) -> tuple[KeyValue, ...]:
        if not prefix:
            return (self._keys[key],) if key in self._keys else ()
        return tuple(self._keys[name] for name in sorted(self._keys) if name.startswith(key))

    def _holds(self, compare: Compare) -> bool:
        kv = self._keys.get(compare.key)
        if kv is None:
            if compare.target is CompareTarget.VALUE:
                return False  # as in etcd: a value condition on a missing key never holds
            kv = KeyValue(compare.key, b"", 0, 0, 0)
        found: dict[CompareTarget, int | bytes] = {
            CompareTarget.VERSION: kv.version,
            CompareTarget.CREATE: kv.create_revision,
            CompareTarget.MOD: kv.mod_revision,
            CompareTarget.VALUE: kv.value,
            CompareTarget.LEASE: kv.lease,
        }
        return _HOLDS[compare.relation](found[compare.target], compare.operand)

    def _apply(self, action: Action, revision: int) -> tuple[KeyValue, ...]:
        match action:
            case Get(key, prefix):
                return self._find(key, prefix=prefix)
            case Put(key, value, lease):
                old = self._keys.get(key)
                kv = KeyValue(key, value, revision, revision, 1, lease)
                if old is not None:
                    kv = replace(kv, create_revision=old.create_revision, version=old.version + 1)
                self._keys[key] = kv
                self._history.append(Event(EventType.PUT, kv))
            case Delete(key, prefix):
                self._remove(self._find(key, prefix=prefix), revision)
        return ()

    def _remove(self, found: Iterable[KeyValue], revision: int) -> None:
        for kv in found:
            del self._keys[kv.key]
            self._history.append(Event(EventType.DELETE, KeyValue(kv.key, b"", 0, revision, 0)))

    def _commit(self, before: int) -> None:
        if len(self._history) == before:
            return
        self.revision += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _lease(self, lease: int) -> _Lease:
        if lease not in self._leases:
            raise LeaseNotFound("requested lease not found", 5)
        return self._leases[lease]

    def _timer(self, lease: int, ttl: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(ttl, self._expire, lease)

    def _expire(self, lease: int) -> None:
        del self._leases[lease]
        before = len(self._history)
        self._remove([kv for kv in self._keys.values() if kv.lease == lease], self.revision + 1)
        self._commit(before)


async def _yield_to_others() -> None:
    """Yield to other tasks, as a network request does: so that tests expose races."""
    await asyncio.sleep(0)


def _matches(target: str, key: str) -> bool:
    return key.startswith(target) if target.endswith("/") else key == target


def _check_branch(actions: Sequence[Action]) -> None:
    if len(actions) > MAX_ACTIONS:
        raise StoreError("too many operations in txn request", 3)
    written: set[str] = set()
    for action in actions:
        if isinstance(action, Put):
            if action.key in written:
                raise StoreError("duplicate key given in txn request", 3)
            written.add(action.key)
    for action in actions:
        if isinstance(action, Delete) and any(_deletes(action, key) for key in written):
            raise StoreError("duplicate key given in txn request", 3)


def _deletes(action: Delete, key: str) -> bool:
    return key.startswith(action.key) if action.prefix else key == action.key
