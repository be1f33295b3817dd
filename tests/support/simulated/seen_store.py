"""The store of a simulated cluster, as one process sees it that may die at any moment."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.crash_point import CrashPoint

from openvcha.store import keys
from openvcha.store.account import Account
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    EndpointStatus,
    Event,
    KeyValue,
    Member,
    Permission,
    Put,
    Snapshot,
    TxnResult,
)


class SeenAccounts:
    """The store's accounts as one process sees them; each change may be its last."""

    def __init__(self, store: "SeenStore") -> None:
        self._store = store
        self._known = store.world.store.accounts

    async def enable_auth(self, own: Account) -> None:
        """Require accounts from now on."""
        async with self._store._writing():
            await self._known.enable_auth(own)

    async def list_names(self) -> frozenset[str]:
        """Return the names of all accounts."""
        self._store._ask()
        return await self._known.list_names()

    async def grant(self, account: Account, permissions: Sequence[Permission]) -> None:
        """Create an account with these permissions."""
        async with self._store._writing():
            await self._known.grant(account, permissions)

    async def delete(self, name: str) -> None:
        """Delete an account."""
        async with self._store._writing():
            await self._known.delete(name)

    async def grant_all(self, account: Account) -> None:
        """Create an account with all permissions."""
        async with self._store._writing():
            await self._known.grant_all(account)

    async def revoke_others(
        self, own: Account | None, others: Mapping[str, Sequence[Permission]]
    ) -> None:
        """Delete all other accounts."""
        async with self._store._writing():
            await self._known.revoke_others(own, others)


@dataclass
class SeenStore:
    """The store as one process sees it: a ClusterStore."""

    world: SimulatedCluster
    life: CrashPoint

    def _ask(self) -> None:
        self.life.check()
        if not self.world.quorum():
            raise StoreUnavailable("no quorum")

    def _need_space(self) -> None:
        """Refuse as etcd does once its database is full; deletes still work."""
        if "no space" in self.world.faults:
            raise StoreError("etcdserver: mvcc: database space exceeded", 8)

    @property
    def accounts(self) -> SeenAccounts:
        """Return the accounts of the store."""
        return SeenAccounts(self)

    async def get(self, key: str) -> KeyValue | None:
        """Read a key, with the faults of the world."""
        self._ask()
        return self._seen(key, await self.world.store.get(key))

    def _seen(self, key: str, found: KeyValue | None) -> KeyValue | None:
        if key == keys.PATRONI_LEADER and "no leader" in self.world.faults:
            return None
        return garbled(found) if f"unreadable {key}" in self.world.faults else found

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read the keys with a prefix."""
        self._ask()
        return await self.world.store.prefix(prefix, keys_only=keys_only)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys."""
        self._ask()
        found = await self.world.store.get_many(names)
        return [self._seen(name, kv) for name, kv in zip(names, found, strict=True)]

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read a prefix with its revision."""
        self._ask()
        return await self.world.store.snapshot(prefix)

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a key; return its revision."""
        self._need_space()
        async with self._writing():
            return await self.world.store.put(key, value, lease)

    async def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        if "reports stay" in self.world.faults and key.startswith(keys.NODES):
            raise StoreUnavailable("away")
        async with self._writing():
            return await self.world.store.delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the keys with a prefix; return how many."""
        async with self._writing():
            return await self.world.store.delete_prefix(prefix)

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run a transaction."""
        if any(isinstance(action, Put) for action in (*success, *failure)):
            self._need_space()
        async with self._writing():
            return await self.world.store.txn(compares, success, failure)

    async def lease_grant(self, ttl: int) -> int:
        """Create a lease; return its id."""
        self._ask()
        return await self.world.store.lease_grant(ttl)

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease; return its remaining time."""
        self._ask()
        return await self.world.store.lease_keep_alive(lease)

    async def lease_remaining(self, lease: int) -> int:
        """Return for how many seconds a lease remains."""
        self._ask()
        return await self.world.store.lease_remaining(lease)

    async def lease_revoke(self, lease: int) -> None:
        """End a lease."""
        self._ask()
        await self.world.store.lease_revoke(lease)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        """Yield changes until the process dies."""
        async for events in self.world.store.watch(target, start_revision):
            self.life.check()
            yield events

    async def get_many_and_members(
        self, names: Sequence[str]
    ) -> tuple[list[KeyValue | None], list[Member]]:
        """Read several keys, and list the members."""
        return await self.get_many(names), await self.members()

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members."""
        if not local:
            self._ask()
        await asyncio.sleep(0)
        return list(self.world.members)

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = True) -> Member:
        """Add a learner."""
        assert learner
        async with self._writing():
            return self.world.add_member(peer_urls[0])

    async def member_remove(self, member_id: int) -> None:
        """Remove a member."""
        async with self._writing():
            self.world.remove_member(member_id)

    async def member_promote(self, member_id: int) -> None:
        """Make a learner a voter."""
        async with self._writing():
            self.world.promote_member(member_id)

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Make another member the leader of the store."""
        self._ask()
        assert self.world.at(_host(endpoint)) is self.world.machine_of(self.world.raft)
        self.world.raft = self.world.by_id(member_id).name

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the status of the endpoint's member."""
        self._ask()
        machine = self.world.at(_host(endpoint))
        assert machine is not None
        leader = self.world.member(self.world.raft).id
        return EndpointStatus(machine.member_id, leader, "3", 0, 1, 1)

    async def healthy(
        self,
        endpoint: str,
        timeout: float,  # noqa: ASYNC109 - the protocol's
        *,
        since: float | None = None,
    ) -> bool:
        """Return whether the endpoint's member runs and there is a quorum."""
        del timeout, since
        self.life.check()
        await asyncio.sleep(0)
        machine = self.world.at(_host(endpoint))
        return machine is not None and machine.etcd and self.world.quorum()

    async def refresh_endpoints(self) -> tuple[str, ...]:
        """Return no endpoints: the simulation has no connections."""
        self._ask()
        return ()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        await self.life.before()
        self._ask()
        yield
        await self.life.after()


def garbled(found: KeyValue | None) -> KeyValue | None:
    """Return what a version reads that does not know the record's form."""
    return dataclasses.replace(found, value=b"?") if found else None


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("https://").rpartition(":")[0]
