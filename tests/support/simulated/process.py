"""A process that serves a simulated cluster: what it sees of the world, and how it dies."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.infrastructure import GIGABYTE, SimulatedInfrastructure
from tests.support.simulated.seen_store import SeenStore
from tests.support.simulated.world.node import SimulatedNode

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
from openvcha.store.node_facts import PostgresFacts
from openvcha.store.patroni.rest import PatroniNode
from openvcha.tasks.journal import Journal
from openvcha.tasks.runner import Plan, Runner
from openvcha.tasks.steps import Step


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
