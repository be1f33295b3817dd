"""What a simulated machine does while it has power, from its first start on."""

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import Any

import structlog
from tests.support.simulated.world.members import SimulatedMembers
from tests.support.simulated.world.node import SimulatedNode

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import JoinInfo, JoinRole, JoinSpec
from openvcha.cluster import mode_settings
from openvcha.cluster.config import address_text
from openvcha.daemon.peer_power import LocalMeans, keep_peers_on
from openvcha.infrastructure.boot import BOOT_FILE, decode_boot
from openvcha.infrastructure.interface import NodeState, Power
from openvcha.node.background.required_votes import RequiredVotesFile, RequiredVotesKeeper
from openvcha.node.identity import Identity
from openvcha.node.local_records.required_votes import RequiredVotes
from openvcha.node.security.certificates import signing_request
from openvcha.store import base_backup_reports, keys, node_facts
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.interface import KeyValue
from openvcha.store.memory import MemoryStore

BROKEN = 'could not access file "timescaledb": No such file or directory'
"""Why PostgreSQL of a new node does not start where it never starts."""


class Reached:
    """The store as a node reaches it, by any member: with a majority, or not at all."""

    def __init__(self, world: SimulatedMembers) -> None:
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


class SimulatedMachines(SimulatedMembers):
    """Starts and stops machines: etcd, the data, PostgreSQL, and what runs beside them."""

    def power_on(self, vm_id: str) -> None:
        """Start a VM's node and what runs beside it; do nothing if it runs."""
        machine = self.machines[vm_id]
        if not machine.on:
            live = self._run if machine.joined else self._bootstrap
            machine.running = asyncio.create_task(live(vm_id), name=f"node {vm_id}")

    def power_off(self, vm_id: str) -> None:
        """Stop all of a VM's node at once."""
        machine = self.machines[vm_id]
        running, machine.running = machine.running, None
        machine.etcd, machine.postgres, machine.demoted = False, "", False
        for task in (*([running] if running else []), *machine.beside):
            task.cancel()
        machine.beside = ()
        self._elect()

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
