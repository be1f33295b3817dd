"""A simulated cluster with a caller of its operations, and the placements that callers request."""

import asyncio
from collections.abc import Callable

from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.process import Process

from openvcha.api.operations import Privilege
from openvcha.api.structures import (
    ConfigState,
    DeploySpec,
    JoinInfo,
    JoinSpec,
    ModeClusterMode,
    PassiveRedeploySpec,
    PlacementSpec,
    TaskStatus,
    UndeploySpec,
    WitnessRedeploySpec,
)
from openvcha.cluster.config import NodeKind
from openvcha.cluster.observing.silence_detector import (
    MIN_MISSED,
    MIN_SILENCE_SECONDS,
    SilenceDetector,
)
from openvcha.node.identity import Identity
from openvcha.operations.caller import Caller
from openvcha.operations.deploy import deploy
from openvcha.operations.joining.join import join
from openvcha.operations.mode import set_mode
from openvcha.operations.redeploy import redeploy_passive, redeploy_witness
from openvcha.operations.undeploy import undeploy
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step

CALLER = Caller("root", frozenset(Privilege), None, "127.0.0.1", generation="first")


NEW = "vcha-new"


NEW_WITNESS = "vcha-witness"


VERY_LONG = 3600.0


def placement(name: str = NEW) -> PlacementSpec:
    """Return a placement in the default folder."""
    return PlacementSpec(name=name, folder="group-v3")


class ClusterScenario:
    """A world, and the task carried out in it."""

    def __init__(self) -> None:
        self.world = SimulatedCluster()
        self.task = ""
        self.token = ""
        """What a person was given to let a node join."""
        self.wrap: Callable[[Step], Step] = lambda step: step
        """What is made of each step before it is carried out."""
        self.world.admit = self._admit
        self._held: SilenceDetector | None = None
        self._replicating: asyncio.Task[None] | None = None

    async def cluster(self, lost: str = "vcha-2") -> None:
        """Begin with a cluster of three, one of which has just lost its power."""
        world = self.world
        a, b = await world.found("vcha-1", 1), await world.found("vcha-2", 2)
        w = await world.found("vcha-3", 3, witness=True)
        await world.configure(ConfigState.CONFIGURED, a, b, w)
        world.kill(f"{lost}-old")
        self._replicating = asyncio.create_task(world.patroni(), name="replication")

    async def single(self) -> None:
        """Begin with one active node and no cluster."""
        await self.world.configure(ConfigState.NOTCONFIGURED, await self.world.found("vcha-1", 1))
        self._replicating = asyncio.create_task(self.world.patroni(), name="replication")

    async def end(self) -> None:
        """End the world and its replication."""
        await self.world.end()
        if self._replicating:
            self._replicating.cancel()
            await asyncio.wait([self._replicating])

    def process(self, life: CrashPoint | None = None) -> Process:
        """Return the service of the node that leads."""
        return Process(self.world, self._identity(), life, self.wrap, self._held)

    async def _admit(self, spec: JoinSpec) -> JoinInfo:
        """Let a node join at the API of the node that leads, which serves once it takes writes."""
        if self.world.machine(self.world.leads).postgres != "primary":
            raise StoreUnavailable("nobody serves")
        return await join(self.process().services, CALLER, spec)

    def _identity(self) -> Identity:
        found = self.world.machine_of(self.world.leads)
        assert found is not None
        return found.identity

    async def look_on(self) -> None:
        """Have observed the cluster for some time, like a service that has run for longer."""
        self._held = SilenceDetector(asyncio.get_running_loop().time)
        for _ in range(MIN_MISSED):
            await asyncio.sleep(MIN_SILENCE_SECONDS / 2)
            await self.process().services.observe()

    async def redeploy(self, spec: PassiveRedeploySpec | None = None) -> None:
        """Start a redeploy of the passive."""
        spec = spec or PassiveRedeploySpec(placement=placement())
        self.task = await redeploy_passive(self.process().services, CALLER, spec)

    async def redeploy_witness(self, spec: WitnessRedeploySpec | None = None) -> None:
        """Start a redeploy of the witness."""
        spec = spec or WitnessRedeploySpec(placement=placement())
        self.task = await redeploy_witness(self.process().services, CALLER, spec)

    async def healthy(self) -> None:
        """Begin with a cluster of three that is in sync."""
        await self.cluster()
        self.world.power_on(self.world.machine("vcha-2-old").identity.vm)
        await self.in_sync("vcha-2-old")

    async def set_mode(self, mode: ModeClusterMode) -> None:
        """Start a change of the mode."""
        self.task = await set_mode(self.process().services, CALLER, mode)

    async def undeploy(self, spec: UndeploySpec | None = None) -> None:
        """Start an undeploy."""
        self.task = await undeploy(self.process().services, CALLER, spec or UndeploySpec())

    async def deploy(self, spec: DeploySpec) -> None:
        """Start a deployment."""
        self.task = await deploy(self.process().services, CALLER, spec)

    async def carry(self, process: Process | None = None) -> None:
        """Let a process work until it dies or the task has ended."""
        process = process or self.process()
        works = [
            asyncio.create_task(process.runner().run(), name="runner"),
            asyncio.create_task(process.life.died.wait(), name="death"),
            asyncio.create_task(self._ended(), name="end"),
        ]
        try:
            async with asyncio.timeout(VERY_LONG):
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in works:
                work.cancel()
            await asyncio.wait(works)

    async def carry_along(self, life: CrashPoint | None = None) -> None:
        """Let each leader in turn carry the task out: a node that stops leading stops working."""
        while not (await self.record()).finished:
            await self.primary()
            process = self.process(life)
            carrying = asyncio.create_task(self.carry(process), name="carry")
            leading = asyncio.create_task(self._leads_on(process), name="leads")
            await asyncio.wait([carrying, leading], return_when=asyncio.FIRST_COMPLETED)
            for task in (carrying, leading):
                task.cancel()
            await asyncio.wait([carrying, leading])
            if process.life.died.is_set():
                return

    async def _leads_on(self, process: Process) -> None:
        """Return when the leader key is gone or names another node than this process's."""
        member = process.services.identity.member
        async for _ in self.world.store.watch(keys.PATRONI_LEADER):
            if await self.world.leader() != member:
                return

    async def until(self, step: str, process: Process | None = None) -> asyncio.Task[None]:
        """Start to carry the task out, and return when this step has begun; the task continues."""
        carrying = asyncio.create_task(self.carry(process), name="carry")
        async with asyncio.timeout(VERY_LONG):
            async for record in self.journal.watch(self.task):
                if record.step == step:
                    return carrying
        raise AssertionError(f"the task ended without step {step}")

    async def die_in(self, step: str) -> None:
        """Start to carry the task out, and kill the process when this step has begun."""
        life = CrashPoint()
        carrying = await self.until(step, self.process(life))
        life.died.set()
        await carrying

    async def in_sync(self, member: str) -> None:
        """Wait until a member may take over."""
        async with asyncio.timeout(VERY_LONG):
            while member not in await self.world.standbys():  # noqa: ASYNC110 - Patroni's state
                await asyncio.sleep(0.01)

    async def primary(self) -> None:
        """Wait until the leader takes writes, as a process does before it serves."""
        async with asyncio.timeout(VERY_LONG):
            while self.world.machine(self.world.leads).postgres != "primary":  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @property
    def journal(self) -> Journal:
        """Return the journal of the tasks."""
        return Journal(self.world.store)

    async def record(self) -> TaskRecord:
        """Return the record of the last started task."""
        return await self.journal.read(self.task)

    async def _ended(self) -> None:
        async for _ in self.journal.watch(self.task):
            pass

    async def validate(self, status: TaskStatus) -> None:
        """Check how the task ended, and that it left nothing behind that no record names."""
        record = await self.record()
        assert record.status is status, record.error
        assert self.world.violations == []
        assert await self.world.store.get(keys.OPERATION) is None
        config = await self.world.config()
        names = {node.member for node in config.nodes}
        assert {member.name for member in self.world.members} <= names
        assert not any(member.learner for member in self.world.members)
        assert (await self.world.leader()) in names
        assert {node.vm for node in config.nodes} >= {
            vm.id for vm in self.world.state.inventory.vms if vm.token not in self.world.founded
        }
        assert await self.world.left_reports() == set()
        assert await self.world.store.prefix(keys.BOOT_TOKENS) == []
        witnesses = {node.member for node in config.nodes if node.kind is NodeKind.WITNESS}
        voting = witnesses & {member.name for member in self.world.members}
        assert self.world.store.accounts.known.keys() == voting

    async def validate_renewed(self, old: str = "vcha-2") -> None:
        """Check that the cluster is whole again, with the new node and without the old one."""
        await self.validate(TaskStatus.SUCCEEDED)
        names = [NEW if name == old else name for name in ("vcha-1", "vcha-2", "vcha-3")]
        assert [node.name for node in (await self.world.config()).nodes] == names
        assert self.world.state.inventory.vm_by_name(old) is None
        assert len(self.world.members) == 3
        assert len(self.world.store.accounts.known) == 1

    async def validate_as_before(self, old: str = "vcha-2") -> None:
        """Check that a failed redeploy left the old configuration and the old node's data."""
        await self.validate(TaskStatus.FAILED)
        assert [n.name for n in (await self.world.config()).nodes] == ["vcha-1", "vcha-2", "vcha-3"]
        assert self.world.state.inventory.vm_by_name(NEW) is None
        assert self.world.state.inventory.vm_by_name(old) is not None
