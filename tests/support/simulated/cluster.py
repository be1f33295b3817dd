"""A SIMULATED world: etcd members and quorum, VMs with nodes, who leads and who may.

The store's keys and the pure parts of the local inventory are the real ones. The world outlives the
processes that act on it, and records every violation of an invariant.
"""

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import structlog
from tests.support.simulated.observations import ip

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import ClusterMode, ConfigState, JoinInfo, JoinRole, JoinSpec
from openvcha.cluster import mode_settings, patroni_client
from openvcha.cluster.config import (
    ClusterConfig,
    NodeConfig,
    NodeKind,
    Ports,
    address_text,
    cluster_record,
)
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.daemon.peer_power import LocalMeans, keep_peers_on
from openvcha.infrastructure import changes
from openvcha.infrastructure.boot import BOOT_FILE, decode_boot
from openvcha.infrastructure.interface import NodeState, Placement, Power, VmRequest
from openvcha.infrastructure.inventory import Vm
from openvcha.infrastructure.local.setup import Names, first_state
from openvcha.node.address.state import HELD
from openvcha.node.background.required_votes import RequiredVotesFile, RequiredVotesKeeper
from openvcha.node.etcd.account import new_account
from openvcha.node.identity import IDENTITY, Identity, encode_identity
from openvcha.node.layout import REQUIRED_VOTES
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    decode_required_votes,
    encode_required_votes,
)
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.replay import Holder
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError
from openvcha.node.security.certificates import KeyPair, signing_request
from openvcha.store import address_reports, base_backup_reports, keys, node_facts
from openvcha.store.address_reports import AddressState
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.store.errors import (
    LearnerNotReady,
    MemberNotFound,
    NotLearner,
    PeerExists,
    StoreError,
    StoreUnavailable,
)
from openvcha.store.interface import Delete, KeyValue, Member, value_is
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.state import parse_sync
from openvcha.system.network.host_port import url

ROOT = Path("/simulated")
TTL_SECONDS = 20.0
LOOP_SECONDS = 0.5


def client_url(peer_url: str) -> str:
    """Return the URL that a member announces to clients once it runs."""
    return peer_url.rpartition(":")[0] + ":2379"


async def nobody_serves(spec: JoinSpec) -> JoinInfo:
    """Let no node join. Raises StoreUnavailable."""
    raise StoreUnavailable(f"nobody serves {spec.name}")


@cache
def _identity(content: bytes) -> Identity:
    """Decode a file that is read on each look at a simulated machine and rarely written."""
    return msgspec.json.decode(content, type=Identity)


@dataclass
class SimulatedNode:
    """A VM's disk and what runs on it. ``written`` is how far its copy of the data goes."""

    files: dict[str, bytes] = field(default_factory=dict)
    running: asyncio.Task[None] | None = None
    etcd: bool = False
    member_id: int = 0
    postgres: str = ""
    """primary, streaming or nothing."""
    written: int = -1
    authority: int = 0
    renewing: bool = False
    beside: tuple[asyncio.Task[None], ...] = ()
    """What runs beside etcd and PostgreSQL, as long as it has power."""
    registered: dict[str, str] = field(default_factory=dict)
    full: bool = False
    """Nothing more can be written to its disk."""
    demoted: bool = False
    """Led until it was told to stop; follows again soon."""
    key: KeyPair | None = None
    """Its key, once it has created that, with the request for its certificate."""

    @property
    def on(self) -> bool:
        """Return whether the node is powered on."""
        return self.running is not None

    @property
    def joined(self) -> bool:
        """Return whether the node has its identity."""
        return bool(self.files.get(IDENTITY))

    @property
    def identity(self) -> Identity:
        """Return the identity in the node's files."""
        return _identity(self.files[IDENTITY])

    @property
    def required_votes(self) -> RequiredVotes | None:
        """Return the voters that a task needs, as the machine's disk has them."""
        kept = self.files.get(REQUIRED_VOTES)
        return decode_required_votes(kept) if kept else None

    def keep(self, required_votes: RequiredVotes, seen: datetime) -> None:
        """Store the required votes in the node's files. Raises OSError if its disk is full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.files[REQUIRED_VOTES] = encode_required_votes(required_votes, seen)

    def forget(self) -> None:
        """Delete the stored required votes."""
        if self.full and REQUIRED_VOTES in self.files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.files.pop(REQUIRED_VOTES, None)


class Reached:
    """The store as a node reaches it, by any member: with a majority, or not at all."""

    def __init__(self, world: "SimulatedCluster") -> None:
        self._world = world
        self.watch = world.store.watch

    async def get(self, key: str) -> KeyValue | None:
        """Read a key."""
        return await self._store.get(key)

    async def put(self, key: str, value: bytes) -> int:
        """Write a key; return its revision."""
        return await self._store.put(key, value)

    async def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        if "deletions are lost" in self._world.faults:
            return True
        return await self._store.delete(key)

    @property
    def _store(self) -> MemoryStore:
        if not self._world.quorum():
            raise StoreUnavailable("no quorum")
        return self._world.store


BROKEN = 'could not access file "timescaledb": No such file or directory'
"""Why PostgreSQL of a new node does not start where it never starts."""


class SimulatedCluster:
    """The whole simulated world. ``faults`` names what does not work in it."""

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

    # --- initial state

    async def found(self, name: str, number: int, *, witness: bool = False) -> NodeConfig:
        """Add a node that has always been there, powered on."""
        member = f"{name}-old"
        self.founded.add(name)
        vm = self.add_vm(
            VmRequest(
                placement=Placement(
                    name=name,
                    folder="group-v3",
                    host=f"host-{10 + number}",
                    resource_pool="resgroup-9",
                    datastore="datastore-14",
                    ha_network="network-15",
                    management_network="network-12",
                ),
                token=name,
                addresses=(f"127.83.2.1{number}",),
            )
        )
        identity = Identity(
            cluster_id="c",
            cluster_name="lab",
            member=member,
            kind="witness" if witness else "data",
            vm=vm.id,
            name=name,
            ha_address=f"127.83.2.1{number}",
            public_address="" if witness else "127.83.1.10",
            etcd_initial_cluster={},
        )
        machine = self.machines[vm.id]
        machine.files[IDENTITY] = encode_identity(identity)
        machine.written = -1 if witness else 0
        peer = url(identity.ha_address, identity.ports.etcd_peer)
        machine.member_id = next(self._ids)
        client = url(identity.ha_address, identity.ports.etcd_client)
        self.members.append(Member(machine.member_id, member, (peer,), (client,)))
        self.raft = member
        self.power_on(vm.id)
        machine.etcd = True
        if witness:
            await self.store.accounts.grant(new_account(member), witness_permissions(member))
        return NodeConfig(
            member=member,
            name=name,
            kind=NodeKind.WITNESS if witness else NodeKind.DATA,
            vm=vm.id,
            bios_uuid=vm.bios_uuid,
            ha_ip=ip(identity.ha_address),
        )

    async def configure(self, state: ConfigState, *nodes: NodeConfig) -> None:
        """Write a configuration with these nodes."""
        config = ClusterConfig(
            id="c",
            name="lab",
            state=state,
            deployment="AUTO" if state is ConfigState.CONFIGURED else "NONE",
            mode=ClusterMode.ENABLED,
            management=ip("127.83.1.10"),
            ports=Ports(),
            nodes=nodes,
        )
        await cluster_record(self.store).create(config)
        begins = {
            name: value for name, value in patroni_client.WITH_STANDBY.items() if value is not None
        }
        fields = {**begins, "ttl": 20}
        await self.store.put(keys.PATRONI_CONFIG, json.dumps(fields).encode())
        await self.lead(nodes[0].member)

    # --- queries

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

    def member(self, name: str) -> Member:
        """Return a member by name."""
        return next(member for member in self.members if member.name == name)

    def rename(self, member: Member, name: str) -> None:
        """Rename a member."""
        self.members[self.members.index(member)] = replace(member, name=name)

    def at(self, address: str) -> SimulatedNode | None:
        """Return the machine that answers at an HA address."""
        found = [
            m
            for m in self.machines.values()
            if m.on and m.joined and m.identity.ha_address == address
        ]
        # Of two at one address, the one that holds the ports.
        return max(found, key=lambda m: (m.etcd, m.postgres), default=None)

    def quorum(self) -> bool:
        """Return whether a majority of the voters runs."""
        if "no quorum" in self.faults:
            return False
        voters = [member for member in self.members if not member.learner]
        machines = [self.machine_of(member.name) for member in voters]
        return 2 * sum(m is not None and m.on and m.etcd for m in machines) > len(voters)

    def by_id(self, member_id: int) -> Member:
        """Return a member by id."""
        return next(member for member in self.members if member.id == member_id)

    async def synchronous(self) -> bool:
        """Return whether Patroni is set to synchronous replication."""
        return bool((await patroni_client.settings(self.store))["synchronous_mode"])

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

    # --- what a person does, or chance

    def power_on(self, vm_id: str) -> None:
        """Start a VM's node and what runs beside it; do nothing if it runs."""
        machine = self.machines[vm_id]
        if not machine.on:
            live = self._run if machine.joined else self._bootstrap
            machine.running = asyncio.create_task(live(vm_id), name=f"node {vm_id}")

    async def _bootstrap(self, vm_id: str) -> None:
        """Join as the boot file says, as often as needed, and run; go off if refused."""
        machine = self.machines[vm_id]
        boot = decode_boot(machine.files[BOOT_FILE])
        address = address_text(boot.ha_ip)
        machine.key = machine.key or signing_request(address)
        spec = JoinSpec(
            token=boot.token,
            role=JoinRole(boot.role.upper()),
            name=boot.name,
            ha_address=address,
            certificate_request=machine.key.certificate.decode(),
        )
        try:
            info = await self._joined(spec)
        except ApiError as error:
            self.refused.append(error.messages[0].id.rpartition("vcha.")[2])
            machine.running = None
            return
        machine.files.update({path: text.reveal().encode() for path, text in info.files.items()})
        machine.files.pop(BOOT_FILE, None)
        await self._run(vm_id)

    async def _joined(self, spec: JoinSpec) -> JoinInfo:
        """Return a new node's files. Raises ApiError if it is refused."""
        while True:
            await asyncio.sleep(0.1)
            try:
                return await self.admit(spec)
            except StoreError:
                continue
            except ApiError as error:
                if error.error_type is not ErrorType.RESOURCE_BUSY:
                    raise

    async def _run(self, vm_id: str) -> None:
        machine = self.machines[vm_id]
        jobs = [self._required_votes_keeper(machine).run()]
        if self.heals:
            jobs.append(keep_peers_on(self.means(machine)))
        machine.beside = tuple(asyncio.create_task(job) for job in jobs)
        await self._live(vm_id)

    def _required_votes_keeper(self, machine: SimulatedNode) -> RequiredVotesKeeper:
        disk = RequiredVotesFile(lambda: machine.required_votes, machine.keep, machine.forget)
        reached: Any = Reached(self)
        return RequiredVotesKeeper(reached, disk, machine.identity.member, structlog.get_logger())

    def means(self, machine: SimulatedNode) -> LocalMeans:
        """Return what a node knows and can do without the store."""
        member = machine.identity.member

        async def serves() -> bool:
            return machine.on and self.quorum()

        async def leaderless() -> bool:
            return await self.leader() is None

        async def voters() -> list[str] | None:
            names = [one.name for one in self.members if not one.learner]
            return names if machine.etcd else None

        async def node(vm_id: str) -> NodeState:
            if self.state.inventory.vm(vm_id) is None:
                return NodeState(power=Power.GONE)
            return NodeState(power=Power.ON if self.vm_on(vm_id) else Power.OFF)

        async def renew(_: RequiredVotes) -> None:
            """Do nothing: a list does not expire here."""

        async def power_on(vm: str) -> None:
            await self._validate_power(vm, member)
            self.power_on(vm)

        return LocalMeans(
            member,
            lambda: machine.required_votes,
            renew,
            serves,
            leaderless,
            voters,
            node,
            power_on,
            machine.identity.timers,
        )

    def vm_on(self, vm_id: str) -> bool:
        """Return whether a VM is powered on."""
        return self.machines[vm_id].on

    def vm_files(self, vm_id: str) -> dict[str, bytes]:
        """Return a VM's files."""
        return self.machines[vm_id].files

    async def _validate_power(self, vm: str, by: str) -> None:
        """Record a violation if a VM must not be on: without a task, removed, or off on purpose."""
        if not self.machines[vm].joined:
            return  # it has no vote yet
        member = self.machines[vm].identity.member
        self.powered.append((by, member))
        if await self.store.get(keys.OPERATION) is None:
            self.violations.append(f"{by} powers {member} on without a task")
        if member not in {one.name for one in self.members}:
            self.violations.append(f"{by} powers {member} on, which was removed")

    def power_off(self, vm_id: str) -> None:
        """Stop all of a VM's node at once."""
        machine = self.machines[vm_id]
        running, machine.running = machine.running, None
        machine.etcd, machine.postgres, machine.demoted = False, "", False
        for task in (*([running] if running else []), *machine.beside):
            task.cancel()
        machine.beside = ()
        self._elect()

    def _elect(self) -> None:
        """Let another voter lead the store when the previous leader is gone."""
        able = [
            member.name
            for member in self.members
            if not member.learner and (machine := self.machine_of(member.name)) and machine.etcd
        ]
        if self.raft not in able and able:
            self.elections += 1
            self.raft = able[0]

    def kill(self, member: str) -> None:
        """Power off the VM of a member."""
        self.power_off(self.machine(member).identity.vm)

    def join(self, files: dict[str, bytes]) -> str:
        """Add a node that a person created and started; it is in no inventory."""
        machine = SimulatedNode(files=files)
        key = f"by hand: {machine.identity.member}"
        self.machines[key] = machine
        self.power_on(key)
        return key

    async def lead(self, member: str) -> None:
        """Make a member the leader, as Patroni does once the leader key is free."""
        if self.machine(member).written < self.acknowledged:
            self.violations.append(f"{member} leads without an acknowledged write")
        self.machine(member).postgres = "primary"
        former, self.leads = self.leads, member
        await self.store.put(keys.PATRONI_LEADER, member.encode())
        await self._write_sync(member, None)
        await self.store.delete(keys.address_report(former))
        await self.report_address(self.address)

    async def report_address(self, state: AddressState | None) -> None:
        """Make this and each further leader report this of the public address; None: nothing."""
        self.address = state
        key = keys.address_report(self.leads)
        if state is None:
            await self.store.delete(key)
        else:
            await self.store.put(key, address_reports.encode(state))

    async def left_reports(self) -> set[str]:
        """Return the keys of all reports but the leader's on the public address."""
        found = {kv.key for kv in await self.store.prefix(keys.NODES)}
        return found - {keys.address_report(self.leads)}

    async def lose_leader(self) -> bool:
        """Cut the leader's power; unless paused, a standby in sync takes over.

        Return whether one did.
        """
        leader = await self.leader() or self.leads
        self.kill(leader)
        named = await self.standbys() if await self.synchronous() else self.streaming()
        heirs = [
            name
            for name in named
            if (machine := self.machine_of(name)) and machine.postgres == "streaming"
        ]
        if heirs and self.quorum() and not any("pause" in on for on in self.going_by.values()):
            await self.lead(heirs[0])
            return True
        return False

    def streaming(self) -> tuple[str, ...]:
        """Return the members that stream from the primary."""
        machines = self.machines.values()
        return tuple(m.identity.member for m in machines if m.on and m.postgres == "streaming")

    # --- what happens by itself

    async def patroni(self) -> None:
        """Write, replicate, and maintain ``/sync`` as Patroni's leader does. Never returns."""
        while True:
            await self._go_by_settings()
            if self.heals and self.quorum():
                await self._expire()
            await self._loop_once()
            self.woken.clear()
            try:
                async with asyncio.timeout(LOOP_SECONDS):
                    await self.woken.wait()
            except TimeoutError:
                continue

    async def _go_by_settings(self) -> None:
        """Let each running Patroni, and each data node's keeper, follow the mode's settings."""
        for machine in list(self.machines.values()):
            if not machine.on or machine.written < 0 or not machine.postgres:
                continue
            await self._go_by(machine, machine.identity.member)

    async def _go_by(self, machine: SimulatedNode, member: str) -> None:
        if "settings are not heard" in self.faults and member != self.leads:
            return
        on = await mode_settings.requested(self.store)
        self.going_by[member] = on
        tags = dict.fromkeys(on - {keys.PAUSE}, True)
        told = {"state": "running", "pause": keys.PAUSE in on, "tags": tags}
        lease = self.leases[member] = self.leases.get(member) or await self.store.lease_grant(10**6)
        await self.store.put(keys.patroni_member(member), json.dumps(told).encode(), lease)
        named = (await self.config()).node(member) is not None
        out_of_service = keys.DETACHED in on and named
        let_go = out_of_service and member not in await self.standbys()
        if machine.postgres == "streaming" and let_go and "never stops" not in self.faults:
            machine.postgres = "stopped"
        comes_back = not out_of_service and "never streams" not in self.faults
        if machine.postgres == "stopped" and comes_back:
            machine.postgres = "streaming"

    async def _loop_once(self) -> None:
        if self.quorum():
            await self._switch()
        leader = await self.leader()
        primary = self.machine_of(leader) if leader else None
        if leader is None or primary is None or not self.quorum() or primary.postgres != "primary":
            return
        standbys = {
            machine.identity.member: machine
            for machine in self.machines.values()
            if machine.on and machine.postgres == "streaming"
        }
        await self._renew(leader, primary)
        named = await self.standbys()
        if named <= standbys.keys():
            # No commit is acknowledged that the standby in sync does not have.
            primary.written += 1
            self.acknowledged = primary.written
            for name, machine in standbys.items():
                # A standby that commits do not wait for stays behind as far as possible.
                if name in named or await self.synchronous():
                    machine.written = primary.written
        willing = [name for name in standbys if keys.DETACHED not in self.going_by.get(name, ())]
        wanted = next(iter(willing), None)
        if not await self.synchronous():
            await self.store.delete(keys.PATRONI_SYNC)
            self.waited_for = frozenset()
            return
        if "never in sync" in self.faults:
            wanted = None
        if await self.store.get(keys.PATRONI_SYNC) is None:
            await self._write_sync(leader, None)
            await asyncio.sleep(0.05)
        if named != frozenset([wanted] if wanted else []):
            await self._write_sync(leader, wanted)
            await asyncio.sleep(0.05)
        self.waited_for = frozenset([wanted] if wanted else [])

    async def _expire(self) -> None:
        """Expire the leader key of a node that is off; a node with all acknowledged rows leads."""
        now, last = asyncio.get_running_loop().time(), self.machine_of(self.leads)
        if last and last.on and await self.leader():
            self._led = now
        elif await self.leader() == self.leads and now - self._led >= TTL_SECONDS:
            await self.store.delete(keys.PATRONI_LEADER)
        if await self.leader() is None:
            named = await self.standbys() | {self.leads}
            heirs = [name for name in self.streaming() if name in named]
            if heirs:
                await self.lead(heirs[0])

    async def _renew(self, leader: str, primary: SimulatedNode) -> None:
        """Maintain the failsafe key as Patroni does, and renew what the supervisor is to."""
        found = await self.store.get(keys.PATRONI_CONFIG)
        safe = found is not None and json.loads(found.value).get(patroni_client.FAILSAFE)
        known = await patroni_client.failsafe_members(self.store)
        if safe and not known and "no failsafe" not in self.faults:
            await self.store.put(keys.PATRONI_FAILSAFE, json.dumps({leader: "url"}).encode())
        if primary.renewing and "never renewed" not in self.faults:
            if not safe or known != {leader}:
                self.violations.append("the store goes while Patroni would step down for it")
            primary.authority, primary.renewing = primary.authority + 1, False

    async def configure_patroni(self, change: dict[str, Any]) -> None:
        """Change Patroni's configuration; None removes a setting."""
        found = await self.store.get(keys.PATRONI_CONFIG)
        fields = {**json.loads(found.value if found else b"{}"), **change}
        kept = {name: value for name, value in fields.items() if value is not None}
        await self._validate_start_timeout(kept)
        await self.store.put(keys.PATRONI_CONFIG, json.dumps(kept).encode())
        self.woken.set()

    async def _validate_start_timeout(self, fields: dict[str, Any]) -> None:
        """Record a violation if a standby may take over before it is known who has every row."""
        unsaid = await self.store.get(keys.PATRONI_SYNC) is None
        if fields.get("primary_start_timeout") == 0 and unsaid and self.streaming():
            self.violations.append("a standby may lead without what was acknowledged")

    async def _switch(self) -> None:
        """Do as Patroni does when asked to switch over, or when the leader key was handed over."""
        leader = await self.leader()
        old, new = self.machine_of(self.leads), self.machine_of(leader or "")
        for machine in self.machines.values():
            if machine.on and machine.demoted and "never follows" not in self.faults:
                machine.postgres, machine.demoted = "streaming", False
        if new and leader != self.leads and new.postgres == "streaming":
            await self._succeed(old, new)
        found = await self.store.get(keys.PATRONI_FAILOVER)
        wish = json.loads(found.value) if found else {}
        if wish:
            await self._grant(wish)

    async def _grant(self, wish: dict[str, str]) -> None:
        old, new = self.machine_of(wish["leader"]), self.machine_of(wish["member"])
        able = old and new and old.postgres == "primary" and new.postgres == "streaming"
        refused = self.faults & {"refuses once", "refuses"}
        self.faults.discard("refuses once")
        if able and not refused and wish["member"] in await self.standbys():
            await self._stop(old)
            await asyncio.sleep(0.2)
            own = value_is(keys.PATRONI_LEADER, wish["leader"].encode())
            await self.store.txn([own], [Delete(keys.PATRONI_LEADER)])
            await asyncio.sleep(0.2)
            if new and new.postgres == "streaming" and await self.leader() is None:
                await self._succeed(old, new)
        await self.store.put(keys.PATRONI_FAILOVER, b"{}")

    async def _stop(self, machine: SimulatedNode | None) -> None:
        if machine and machine.on:
            machine.postgres, machine.demoted = "", True

    async def _succeed(self, old: SimulatedNode | None, new: SimulatedNode) -> None:
        await self._stop(old)
        if "never promotes" in self.faults:
            return
        if new.written < self.acknowledged:
            self.violations.append(f"{new.identity.member} leads without what was acknowledged")
        await self.lead(new.identity.member)

    async def _write_sync(self, leader: str, standby: str | None) -> None:
        value = {"leader": leader, "sync_standby": standby, "quorum": 0}
        await self.store.put(keys.PATRONI_SYNC, json.dumps(value).encode())

    async def _live(self, vm_id: str) -> None:
        """Run a node: etcd first; then the data, copied where there are none; then PostgreSQL."""
        machine = self.machines[vm_id]
        identity = machine.identity
        await asyncio.sleep(0.1)
        while not self._join_etcd(machine, identity):  # noqa: ASYNC110 - as a part's restarts
            await asyncio.sleep(0.2)
        await asyncio.sleep(20 if "slow etcd" in self.faults else 0.1)
        while not self._publish(machine, identity):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.2)
        if identity.kind == "witness":
            await asyncio.Event().wait()
        if machine.written < 0:
            await self._take_base_backup(machine, identity)
        while identity.member not in {member.name for member in self.members}:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.3)
        if "never starts" in self.faults and identity.etcd_state == "existing":
            await self._fail_to_start(identity)
        if await self.leader() == identity.member:
            machine.postgres = "primary"
        elif keys.DETACHED in await mode_settings.requested(self.store):
            machine.postgres = "stopped"
        elif "never streams" not in self.faults:
            machine.postgres = "streaming"
        await asyncio.Event().wait()

    async def _fail_to_start(self, identity: Identity) -> None:
        """Report the failure under a lease, as a node does, until the node ends."""
        for times in count(1):
            told = node_facts.NodeFacts(
                versions={},
                disk_free=1,
                disk_total=1,
                clock=datetime.now(UTC),
                certificate_until=datetime.now(UTC),
                trouble=node_facts.PostgresTrouble(
                    starts=True, times=times, reason=BROKEN, lines=("a", BROKEN)
                ),
            )
            lease = await self.store.lease_grant(40)
            await self.store.put(keys.node_facts(identity.member), node_facts.encode(told), lease)
            await asyncio.sleep(4)

    def _join_etcd(self, machine: SimulatedNode, identity: Identity) -> bool:
        """Learn the own member id once: it is kept on the disk for ever."""
        if "etcd never starts" in self.faults and identity.etcd_state == "existing":
            return False
        peer = url(identity.ha_address, identity.ports.etcd_peer)
        for member in self.members:
            ours = member.name == identity.member
            if ours or (not machine.member_id and not member.name and peer in member.peer_urls):
                machine.member_id = member.id
                return True
        return bool(machine.member_id)

    def _publish(self, machine: SimulatedNode, identity: Identity) -> bool:
        """Publish the own name; a removed member never gets that far."""
        for at, member in enumerate(self.members):
            if member.id == machine.member_id:
                self.members[at] = replace(member, name=identity.member)
                machine.etcd = True
                return True
        return False

    async def _take_base_backup(self, machine: SimulatedNode, identity: Identity) -> None:
        for attempt in count(1):
            for part in range(4):
                await self._report(identity, BaseBackupState.RUNNING, part, attempt)
                await asyncio.sleep(50 if "slow copy" in self.faults else 0.2)
                if "copy hangs" in self.faults:
                    await asyncio.Event().wait()
            if "copy fails" in self.faults:
                await self._report(identity, BaseBackupState.FAILED, 3, attempt, error="disk full")
                await asyncio.Event().wait()
            if self.base_backup_error:
                await self._report(identity, BaseBackupState.FAILED, 3, attempt, error="it ended")
                await asyncio.sleep(1)
                continue
            if "copy begins anew" not in self.faults:
                break
        machine.written = self.acknowledged
        await self._report(identity, BaseBackupState.DONE, 4, 1)

    async def _report(
        self,
        identity: Identity,
        state: BaseBackupState,
        part: int,
        attempt: int,
        error: str | None = None,
    ) -> None:
        report = BaseBackupReport(
            state=state,
            bytes_done=part,
            bytes_total=4,
            attempt=attempt,
            error=error,
            temporary=error == "it ended",
        )
        await self.store.put(
            keys.base_backup_report(identity.member), base_backup_reports.encode(report)
        )

    # --- what the infrastructure does

    def add_vm(self, request: VmRequest) -> Vm:
        """Create a VM as the local infrastructure does."""
        vm_uuid = f"uuid-{self.state.next_number}"
        self.state, vm = changes.add_vm(self.state, request, vm_uuid)
        self.machines.setdefault(vm.id, SimulatedNode())
        return vm

    async def delete_vm(self, vm_id: str) -> None:
        """Delete a VM; note a violation if it was the last copy."""
        if vm_id not in self.machines:
            return
        machine = self.machines[vm_id]
        rest = [m.written for other, m in self.machines.items() if other != vm_id]
        if machine.written >= self.acknowledged and max(rest, default=-1) < self.acknowledged:
            self.violations.append(f"{vm_id} was the last copy")
        if machine.joined and machine.identity.member == await self.leader():
            self.violations.append(f"{vm_id} leads and is deleted")
        self.cut(vm_id)
        del self.machines[vm_id]
        self.state, _ = changes.remove_vm(vm_id)(self.state)

    def cut(self, vm_id: str) -> None:
        """Power off on the task's behalf: that must not stop the cluster."""
        before = self.quorum()
        machine = self.machines[vm_id]
        if machine.postgres == "streaming" and machine.identity.member in self.waited_for:
            self.waits.append(f"{machine.identity.member} ended while commits wait for it")
        self.power_off(vm_id)
        self._note_quorum(before, f"{vm_id} was powered off")

    def remove_member(self, member_id: int) -> None:
        """Remove a member. Raises StoreError as etcd does."""
        before = self.quorum()
        gone = [member for member in self.members if member.id == member_id]
        if not gone:
            raise MemberNotFound("no such member")
        if "removals are heard late" in self.faults and gone[0].id not in self.late:
            self.late.add(gone[0].id)
            return
        self.members.remove(gone[0])
        machine = self.machine_of(gone[0].name)
        if machine:
            machine.etcd = False
        self._elect()
        self._note_quorum(before, f"{gone[0].name} was removed")

    def add_member(self, peer_url: str) -> Member:
        """Add a learner. Raises StoreError as etcd does."""
        if any(peer_url in member.peer_urls for member in self.members):
            raise PeerExists("peer URL exists")
        if any(member.learner for member in self.members):
            raise StoreError("too many learner members in cluster")
        member = Member(next(self._ids), "", (peer_url,), (), learner=True)
        self.members.append(member)
        return member

    def promote_member(self, member_id: int) -> None:
        """Make a learner a voter. Raises StoreError as etcd does."""
        for at, member in enumerate(self.members):
            if member.id == member_id:
                if not member.learner:
                    raise NotLearner("a voter")
                machine = self.machine_of(member.name)
                if machine is None or not machine.etcd:
                    raise LearnerNotReady("not in sync with leader")
                urls = (client_url(member.peer_urls[0]),)
                self.members[at] = Member(member.id, member.name, member.peer_urls, urls)
                if sum(not each.learner for each in self.members) > 3:
                    self.violations.append(f"a fourth voter: {member.name}")
                return
        raise MemberNotFound("no such member")

    def _note_quorum(self, before: bool, what: str) -> None:
        if before and not self.quorum():
            self.violations.append(f"no quorum since {what}")

    async def end(self) -> None:
        """Power off all nodes."""
        for vm_id in list(self.machines):
            self.power_off(vm_id)
