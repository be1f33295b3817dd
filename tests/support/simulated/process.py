"""A process that serves a simulated cluster: what it sees of the world, and how it dies."""

import asyncio
import dataclasses
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.simulated.cluster import SimulatedCluster, SimulatedNode
from tests.support.simulated.infrastructure import GIGABYTE, SimulatedInfrastructure

from openvcha.cluster.config import NodeKind
from openvcha.cluster.observing.observer import Observer
from openvcha.cluster.observing.silence_detector import SilenceDetector
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.node.etcd.account import new_account
from openvcha.node.identity import IDENTITY, Identity, encode_identity
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.replay import Replay
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.operations.context import Services
from openvcha.operations.registry import plans
from openvcha.operations.steps.new_node import NewNode
from openvcha.operations.steps.node_vms import surely_off
from openvcha.operations.steps.votes.required_votes import initial_required_votes
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
from openvcha.store.node_facts import PostgresFacts
from openvcha.store.patroni.rest import PatroniNode
from openvcha.tasks.journal import Journal
from openvcha.tasks.runner import Plan, Runner
from openvcha.tasks.steps import Step

SWEPT = pytest.mark.parametrize(
    "stride",
    [pytest.param(5, id="some"), pytest.param(1, id="all", marks=pytest.mark.soak)],
)
"""How far apart the moments are at which a process dies: each of them has a life of its own."""


class CrashPoint:
    """One process: it dies at its n-th moment, before or after its action there."""

    def __init__(self, dies_at: int | None = None, *, after: bool = False) -> None:
        self._dies_at = dies_at
        self._after = after
        self.moments = 0
        self.died = asyncio.Event()

    async def before(self) -> None:
        """Count an effect that is about to happen, and perhaps die before it."""
        self.check()
        self.moments += 1
        if not self._after:
            await self._perhaps_die()

    async def after(self) -> None:
        """Perhaps die after an effect."""
        if self._after:
            await self._perhaps_die()

    def check(self) -> None:
        """Raise StoreUnavailable if the process has died."""
        if self.died.is_set():
            raise StoreUnavailable("dead")

    async def _perhaps_die(self) -> None:
        if self.moments == self._dies_at:
            self.died.set()
            await asyncio.Event().wait()


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


@dataclass
class SeenPatroni:
    """Patroni as one process sees it: a PatroniAccess."""

    world: SimulatedCluster
    life: CrashPoint

    async def node(self, address: str) -> PatroniNode:
        """Return the state of the node at an address. Raises PatroniUnreachable."""
        self.life.check()
        await asyncio.sleep(0)
        machine = self.world.at(address)
        if machine is None or not machine.postgres or "patroni silent" in self.world.faults:
            raise PatroniUnreachable(f"nobody at {address}")
        alone = keys.ALONE in self.world.going_by.get(machine.identity.member, ())
        if machine.postgres == "primary" and "no leader" in self.world.faults:
            return PatroniNode("replica", "starting", 1, (), alone)
        if machine.postgres == "primary":
            streaming = self.world.streaming()
            waited_for = tuple(name for name in streaming if name in self.world.waited_for)
            said = PatroniNode("primary", "running", 1, streaming, alone, waited_for)
        else:
            said = PatroniNode("replica", machine.postgres, 1, (), alone)
        return dataclasses.replace(said, member=machine.identity.member)

    async def wake(self, address: str) -> None:
        """Run the leader's loop now."""
        await self.node(address)
        self.world.woken.set()

    async def configure(self, address: str, change: dict[str, Any]) -> None:
        """Change Patroni's configuration."""
        await self.node(address)
        await self.life.before()
        await self.world.configure_patroni(change)
        await self.life.after()


def garbled(found: KeyValue | None) -> KeyValue | None:
    """Return what a version reads that does not know the record's form."""
    return dataclasses.replace(found, value=b"?") if found else None


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("https://").rpartition(":")[0]


@dataclass
class SeenCredentials:
    """The serving node's credentials, as its process sees them; the world renews them."""

    machine: SimulatedNode
    life: CrashPoint

    def authority(self) -> str:
        """Return the authority of the node's certificate."""
        self.life.check()
        return f"authority {self.machine.authority}"

    def service_authority(self) -> str:
        """Return the authority that clients trust."""
        self.life.check()
        return "AA" * 32

    def pending(self) -> bool:
        """Return whether a rotation is pending."""
        self.life.check()
        return self.machine.renewing

    def obstacle(self) -> str | None:
        """Return why the rotation does not advance."""
        self.life.check()
        return "PostgreSQL does not accept the new passwords: full"

    async def renew(self) -> None:
        """Request a rotation."""
        await self.life.before()
        self.machine.renewing = True
        await self.life.after()


@dataclass
class SeenPostgres:
    """The PostgreSQL servers as one process sees them: a PostgresAccess."""

    world: SimulatedCluster
    life: CrashPoint

    async def checkpoint(self, host: str) -> None:
        """Note a checkpoint; never return if the world's faults say so."""
        await self.life.before()
        member = self._at(host).identity.member
        if f"{member} hangs in a checkpoint" in self.world.faults:
            await asyncio.Event().wait()
        self.world.checkpoints.append(member)
        await self.life.after()

    async def position(self, host: str) -> int:
        """Return the last written row, as the position of the WAL."""
        self.life.check()
        return self._at(host).written

    async def replay(self, host: str) -> Replay:
        """Return how far a node has replayed the WAL."""
        self.life.check()
        machine = self._at(host)
        standby = machine.postgres != "primary"
        held = self.world.holders if standby else ()
        position = -1 if held else machine.written
        return Replay(position, standby, paused=False, delay="0", holders=held)

    async def base_backup_error(self, since: datetime) -> ServerError | None:
        """Return the error that the world holds for the base backup, if any."""
        self.life.check()
        assert since < datetime.now(UTC)
        return self.world.base_backup_error

    async def inspect(self, host: str) -> PostgresFacts:
        """Return the facts that the world holds."""
        self.life.check()
        self._at(host)
        if "no survey" in self.world.faults:
            raise PostgresUnreachable("no answer within 10 s")
        return self.world.survey

    async def missing_files(self, host: str) -> tuple[MissingFile, ...]:
        """Return the files that the world holds as missing."""
        self.life.check()
        self._at(host)
        if "databases silent" in self.world.faults:
            raise PostgresUnreachable("no answer within 10 s")
        return self.world.missing_files

    async def test_password_change(self, host: str) -> None:
        """Raise PostgresUnreachable if the world's faults say so."""
        await self.life.before()
        self._at(host)
        if "no renewal" in self.world.faults:
            raise PostgresUnreachable('role "rewind" does not exist')
        await self.life.after()

    def _at(self, host: str) -> SimulatedNode:
        machine = self.world.at(host)
        if machine is None or not machine.postgres or "no checkpoint" in self.world.faults:
            raise PostgresUnreachable(f"nobody at {host}")
        return machine


class Process:
    """The service of the node that leads."""

    def __init__(
        self,
        world: SimulatedCluster,
        identity: Identity,
        life: CrashPoint | None = None,
        wrap: Callable[[Step], Step] = lambda step: step,
        held: SilenceDetector | None = None,
    ) -> None:
        self._wrap = wrap
        self.life = life or CrashPoint()
        store = SeenStore(world, self.life)
        patroni = SeenPatroni(world, self.life)
        infrastructure = SimulatedInfrastructure(world, self.life)
        now = asyncio.get_running_loop().time

        async def data_bytes() -> int:
            return GIGABYTE

        async def elsewhere() -> list[Path]:
            return [world.root / "elsewhere"] if "data elsewhere" in world.faults else []

        async def administrator(name: str) -> str | None:
            return world.administrators.get(name)

        async def register(made: Mapping[str, str]) -> None:
            await self.life.before()
            world.machine(identity.member).registered = dict(made)
            await self.life.after()

        self.services = Services(
            store=store,
            patroni=patroni,
            observer=Observer(
                store,
                patroni,
                off=partial(surely_off, infrastructure),
                detector=held or SilenceDetector(now),
                lag_limit=identity.timers.replication_lag,
                node_leader_ttl=identity.timers.leader_ttl,
            ),
            infrastructure=infrastructure,
            journal=Journal(store),
            identity=identity,
            directory=world.root,
            credentials=SeenCredentials(world.machine(identity.member), self.life),
            data_bytes=data_bytes,
            external_data=elsewhere,
            register=register,
            postgres=SeenPostgres(world, self.life),
            administrator=administrator,
            requires_votes=lambda: world.machine(identity.member).required_votes is not None,
        )

    def runner(self) -> Runner:
        """Return the runner of the tasks."""
        services = self.services
        return Runner(
            services.store,
            services.journal,
            {name: self._wrapped(plan) for name, plan in plans(services).items()},
            name=services.identity.member,
        )

    def _wrapped(self, plan: Plan) -> Plan:
        return lambda record: [self._wrap(step) for step in plan(record)]


async def joining_files_of(
    services: Services, node: NewNode, public_key: bytes
) -> dict[str, bytes]:
    """Stand in for the real one, which creates certificates: return the identity without them."""
    assert public_key
    assert node.vm is not None
    own = services.identity
    changes: dict[str, Any] = {
        "member": node.member,
        "kind": node.kind.value,
        "vm": node.vm,
        "name": node.placement.name,
        "ha_address": node.ha_address,
        "etcd_state": "existing",
    }
    if node.kind is NodeKind.WITNESS:
        await services.store.accounts.grant(
            new_account(node.member), witness_permissions(node.member)
        )
    made = {IDENTITY: encode_identity(replace(own, **changes))}
    return made | await initial_required_votes(services)
