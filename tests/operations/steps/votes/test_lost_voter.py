"""A node dies while both of two votes are needed: no person has to power it on.

Whichever node dies, at any moment from the first changed vote to the end of the task, the cluster
takes writes again, and no node is powered on that must not be (the world checks each power-on).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from tests.support.simulated import process
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.deploy import begin as begin_deploy
from tests.support.simulated.redeploy import begin as begin_redeploy
from tests.support.simulated.scenes import NEW, NEW_WITNESS, ClusterScenario, placement

from openvcha.api.structures import TaskStatus, UndeploySpec, WitnessRedeploySpec
from openvcha.daemon.peer_power import POLL_SECONDS
from openvcha.node.local_records.required_votes import RequiredVotes, decode_required_votes
from openvcha.operations.context import Services
from openvcha.operations.steps.votes.required_votes import OTHERS_SECONDS, initial_required_votes
from openvcha.store import keys

pytestmark = SIMULATED

ACTIVE, WITNESS = "vcha-1-old", "vcha-3-old"
LONG = 3000.0
STRIDE = 11
"""Of the moments that are tried: each has a whole deployment, also one that is undone."""
HOST_SECONDS = 30.0
"""How long after both have died a host starts one of them."""

Begin = Callable[[ClusterScenario], Awaitable[None]]


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits: three minutes are thousands of polls, also in a simulated world."""
    monkeypatch.setattr("openvcha.operations.steps.base_backup.STALL_SECONDS", 10.0)


async def begin_witness(scene: ClusterScenario) -> None:
    await scene.cluster("vcha-3")
    scene.world.power_on(scene.world.machine("vcha-2-old").identity.vm)
    await scene.in_sync("vcha-2-old")
    await scene.look_on()
    await scene.redeploy_witness(WitnessRedeploySpec(placement=placement()))


async def begin_undeploy(scene: ClusterScenario) -> None:
    await scene.healthy()
    await scene.undeploy(UndeploySpec(force_delete=True))


@dataclass
class Fate:
    """What dies, at the n-th moment of a process since the votes began to change."""

    scene: ClusterScenario
    who: str
    at: int
    moments: int = 0
    happened: bool = False
    before: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self.before = self.voters()

    def voters(self) -> frozenset[str]:
        return frozenset(m.name for m in self.scene.world.members if not m.learner)

    async def strike(self, life: CrashPoint) -> None:
        """Count the moment; at the chosen one, cut power."""
        changed = self.voters() != self.before
        # Without the record only one vote is left, or the votes are not the task's any more.
        if (
            self.happened
            or not changed
            or not await self.scene.world.store.get(keys.REQUIRED_VOTES)
        ):
            return
        self.moments += 1
        if self.moments < self.at:
            return
        self.happened = True
        await self._cut(life)

    async def _cut(self, life: CrashPoint) -> None:
        world = self.scene.world
        active = world.leads
        others = [name for name in sorted(self.voters() - {active}) if world.machine(name).on]
        if self.who != "active" and others:
            world.kill(others[0])
        if self.who == "other":
            return
        life.died.set()
        await world.lose_leader()
        if self.who == "both":
            back = others[0] if others and self.at % 2 else active
            asyncio.get_running_loop().call_later(HOST_SECONDS, self._host_starts, back)

    def _host_starts(self, member: str) -> None:
        machine = self.scene.world.machine_of(member)
        if machine is not None:
            self.scene.world.power_on(machine.identity.vm)


class Doomed(CrashPoint):
    """A process during which fate strikes."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    async def before(self) -> None:
        await super().before()
        await self._fate.strike(self)
        if self.died.is_set():
            await asyncio.Event().wait()


async def carried(fate: Fate) -> None:
    """Let each leader in turn carry the task out, to its end."""
    async with asyncio.timeout(LONG):
        while not (await fate.scene.record()).finished:
            await fate.scene.carry_along(Doomed(fate))


async def takes_writes(scene: ClusterScenario) -> None:
    """Wait until one more row is acknowledged."""
    async with asyncio.timeout(LONG):
        before = scene.world.acknowledged
        while scene.world.acknowledged <= before:  # noqa: ASYNC110 - PostgreSQL's state
            await asyncio.sleep(0.5)


OPERATIONS = {
    "deploy": begin_deploy,
    "redeploy-passive": begin_redeploy,
    "redeploy-witness": begin_witness,
    "undeploy": begin_undeploy,
}


@pytest.mark.usefixtures("scene")
@pytest.mark.parametrize("who", ["active", "other", "both"])
@pytest.mark.parametrize("begin", OPERATIONS.values(), ids=OPERATIONS)
async def test_whoever_dies_while_votes_change_it_takes_writes_again(
    begin: Begin, who: str
) -> None:
    """Without a person; of two that die at once a host restarts one."""
    at, times = 1, 0
    while True:
        scene = ClusterScenario()
        scene.world.heals = True
        await begin(scene)
        fate = Fate(scene, who, at)
        await carried(fate)
        if not fate.happened:
            await scene.end()
            break
        await takes_writes(scene)
        record = await scene.record()
        names = {node.member for node in (await scene.world.config()).nodes}
        assert (at, {m.name for m in scene.world.members} <= names) == (at, True), record.error
        # A store that stops for a moment is the point of this test; nothing else may happen.
        violations = [v for v in scene.world.violations if not v.startswith("no quorum since")]
        assert (at, violations) == (at, [])
        assert await scene.world.store.get(keys.REQUIRED_VOTES) is None
        await scene.end()
        at, times = at + STRIDE, times + 1
    assert times


async def test_who_votes_keeps_the_list_before_a_vote_changes(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The active and the witness: either may die right after the first change."""
    await begin_redeploy(scene)
    world, kept = scene.world, []
    remove = world.remove_member

    def noting(member_id: int) -> None:
        kept.append([world.machine(name).required_votes for name in (ACTIVE, WITNESS)])
        remove(member_id)

    monkeypatch.setattr(world, "remove_member", noting)
    await scene.carry()
    await scene.validate_renewed()
    for required_votes in kept[0]:
        assert required_votes is not None
        assert (required_votes.active, set(required_votes.nodes)) == (ACTIVE, {ACTIVE, WITNESS})
    await asyncio.sleep(3)
    assert [machine.required_votes for machine in world.machines.values()] == [None] * 3


async def test_a_new_node_is_born_with_the_list(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the only one left before it has heard anything from the store."""
    await begin_deploy(scene)
    given: list[RequiredVotes] = []

    async def noting(services: Services) -> dict[str, bytes]:
        files = await initial_required_votes(services)
        given.extend(decode_required_votes(content) for content in files.values())
        return files

    monkeypatch.setattr(process, "initial_required_votes", noting)
    await scene.carry()
    assert len(given) == len({NEW, NEW_WITNESS})
    for required_votes in given:
        assert required_votes.nodes[ACTIVE] == scene.world.machine(ACTIVE).identity.vm


async def test_who_answers_and_does_not_keep_the_list_delays_the_task_and_no_more(
    scene: ClusterScenario,
) -> None:
    """A full disk of the witness must not fail a redeploy that is needed."""
    await begin_redeploy(scene)
    world = scene.world
    for job in world.machine(WITNESS).beside:
        job.cancel()
    began = asyncio.get_running_loop().time()
    await scene.carry()
    await scene.validate_renewed()
    assert asyncio.get_running_loop().time() - began >= OTHERS_SECONDS


async def test_a_task_that_its_own_node_cannot_help_changes_no_vote(scene: ClusterScenario) -> None:
    """Where the list cannot be stored, the next loss would stop the cluster for good."""
    await begin_redeploy(scene)
    world = scene.world
    for job in world.machine(ACTIVE).beside:
        job.cancel()
    before = list(world.members)
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert record.error
    assert "progress.rely" in {one.id.rpartition("vcha.")[2] for one in record.error.messages}
    assert world.members == before


async def test_after_the_task_nobody_is_powered_on(scene: ClusterScenario) -> None:
    """A node that a person powers off stays off, whichever it is and however the task ended."""
    scene.world.heals = True
    await begin_redeploy(scene)
    await scene.carry()
    await asyncio.sleep(3)
    world = scene.world
    for member in [member.name for member in world.members if member.name != ACTIVE]:
        world.kill(member)
    await asyncio.sleep(120)
    assert world.powered == []


async def test_a_list_that_was_left_is_forgotten(scene: ClusterScenario) -> None:
    """A node that was off when the task ended learns of it before it could act."""
    scene.world.heals = True
    await scene.healthy()
    world = scene.world
    vms = {name: world.machine(name).identity.vm for name in (ACTIVE, WITNESS)}
    now = scene.process().services.journal.clock()
    world.machine(WITNESS).keep(RequiredVotes(task="t", active=ACTIVE, nodes=vms), now)
    world.kill(WITNESS)
    world.power_on(vms[WITNESS])
    await asyncio.sleep(2 * POLL_SECONDS + 1)
    assert world.machine(WITNESS).required_votes is None
    world.kill(ACTIVE)
    world.kill("vcha-2-old")
    await asyncio.sleep(60)
    assert world.powered == []
