"""The state of a simulated world, and what is read of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.support.simulated.world.node import SimulatedNode

from openvcha.api.structures import JoinInfo, JoinSpec
from openvcha.cluster import patroni_client
from openvcha.cluster.config import ClusterConfig, cluster_record
from openvcha.infrastructure.inventory import Vm
from openvcha.infrastructure.local.setup import Names, first_state
from openvcha.node.address.state import HELD
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.replay import Holder
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError
from openvcha.store import keys, node_facts
from openvcha.store.address_reports import AddressState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import Member
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.state import parse_sync

ROOT = Path("/simulated")


async def nobody_serves(spec: JoinSpec) -> JoinInfo:
    """Let no node join. Raises StoreUnavailable."""
    raise StoreUnavailable(f"nobody serves {spec.name}")


class SimulatedState:
    """Holds what is in the world; ``faults`` names what does not work in it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.members: list[Member] = []
        self.state = first_state("127.83.1.0/24", "127.83.2.0/24", Names())
        self.machines: dict[str, SimulatedNode] = {}
        self.faults: set[str] = set()
        self.unfinished: dict[str, int] = {}
        """Looks that are left until the creation of a VM is done."""
        self.administrators = {"root": "first"}
        """The generation of each Administrator's password."""
        self.power_looks = 0
        """How often somebody has looked at the power of all VMs."""
        self.acknowledged = 0
        self.checkpoints: list[str] = []
        self.holders: tuple[Holder, ...] = ()
        """Who holds the replay of a standby up."""
        self.survey = node_facts.PostgresFacts()
        """What users have set in PostgreSQL."""
        self.missing_files: tuple[MissingFile, ...] = ()
        """What the databases use and is not installed."""
        self.base_backup_error: ServerError | None = None
        """What the primary's log says of a copy that fails again and again."""
        self.admit: Callable[[JoinSpec], Awaitable[JoinInfo]] = nobody_serves
        """The call with which a new node joins."""
        self.refused: list[str] = []
        """Why new nodes were refused."""
        self.leases: dict[str, int] = {}
        self.violations: list[str] = []
        self.woken = asyncio.Event()
        self.root: Path = ROOT
        self.leads = ""
        self.address: AddressState | None = HELD
        """What the leader reports of the public address."""
        self.going_by: dict[str, frozenset[str]] = {}
        self.founded: set[str] = set()
        self.raft = ""
        """Who leads the store."""
        self.elections = 0
        self.waited_for: frozenset[str] = frozenset()
        """What PostgreSQL of the leader waits for at each commit."""
        self.waits: list[str] = []
        """What has held a writer up."""
        self.late: set[int] = set()
        self.heals = False
        """Whether nodes power each other on, and the right to lead ends with who held it."""
        self.powered: list[tuple[str, str]] = []
        """Who has powered whom on."""
        self._led = 0.0
        self._ids = count(100)

    def vm(self, vm_id: str) -> Vm:
        """Return a VM of the inventory."""
        found = self.state.inventory.vm(vm_id)
        assert found is not None
        return found

    def machine_of(self, member: str) -> SimulatedNode | None:
        """Return the node with this member's identity, if there is one."""
        found = [
            machine
            for machine in self.machines.values()
            if machine.joined and machine.identity.member == member
        ]
        return found[0] if found else None

    def machine(self, member: str) -> SimulatedNode:
        """Return the node with this member's identity."""
        found = self.machine_of(member)
        assert found is not None
        return found

    def at(self, address: str) -> SimulatedNode | None:
        """Return the machine that answers at an HA address."""
        found = [
            m
            for m in self.machines.values()
            if m.on and m.joined and m.identity.ha_address == address
        ]
        # Of two at one address, the one that holds the ports.
        return max(found, key=lambda m: (m.etcd, m.postgres), default=None)

    def vm_on(self, vm_id: str) -> bool:
        """Return whether a VM is powered on."""
        return self.machines[vm_id].on

    def vm_files(self, vm_id: str) -> dict[str, bytes]:
        """Return a VM's files."""
        return self.machines[vm_id].files

    def member(self, name: str) -> Member:
        """Return a member by name."""
        return next(member for member in self.members if member.name == name)

    def rename(self, member: Member, name: str) -> None:
        """Rename a member."""
        self.members[self.members.index(member)] = replace(member, name=name)

    def by_id(self, member_id: int) -> Member:
        """Return a member by id."""
        return next(member for member in self.members if member.id == member_id)

    def quorum(self) -> bool:
        """Return whether a majority of the voters runs."""
        if "no quorum" in self.faults:
            return False
        voters = [member for member in self.members if not member.learner]
        machines = [self.machine_of(member.name) for member in voters]
        return 2 * sum(m is not None and m.on and m.etcd for m in machines) > len(voters)

    async def leader(self) -> str | None:
        """Return the member that holds the leader key, if any."""
        found = await self.store.get(keys.PATRONI_LEADER)
        return found.value.decode() if found else None

    async def config(self) -> ClusterConfig:
        """Return the configuration."""
        found = await cluster_record(self.store).get()
        assert found is not None
        return found

    async def standbys(self) -> frozenset[str]:
        """Return the synchronous standbys that /sync names."""
        found = await self.store.get(keys.PATRONI_SYNC)
        return parse_sync(found.value if found else b"").standbys

    def streaming(self) -> tuple[str, ...]:
        """Return the members that stream from the primary."""
        machines = self.machines.values()
        return tuple(m.identity.member for m in machines if m.on and m.postgres == "streaming")

    async def synchronous(self) -> bool:
        """Return whether Patroni is set to synchronous replication."""
        return bool((await patroni_client.settings(self.store))["synchronous_mode"])

    async def left_reports(self) -> set[str]:
        """Return the keys of all reports but the leader's on the public address."""
        found = {kv.key for kv in await self.store.prefix(keys.NODES)}
        return found - {keys.address_report(self.leads)}
