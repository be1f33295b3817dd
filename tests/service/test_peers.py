"""The other node dies while each of two votes is needed: nobody has to come and power it on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.service.conftest import NEW, NEW_WITNESS, Scene
from tests.service.process import Life
from tests.service.test_deploy import begin as begin_deploy
from tests.service.test_redeploy import begin as begin_redeploy

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import TaskStatus, UndeploySpec
from openvcha.serving.peers import LOOK_SECONDS, STOPPED_SECONDS, Means, keep_peers_on
from openvcha.store import keys
from openvcha.tasks.record import TaskRecord

pytestmark = pytest.mark.looptime

ACTIVE, WITNESS = "vcha-1-old", "vcha-3-old"
LONG = 3000.0
STRIDE = 4
"""Every fourth moment: each has a whole deployment, also one that is undone."""


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three minutes are thousands of looks, also in a simulated world."""
    monkeypatch.setattr("openvcha.service.copy.STALL_SECONDS", 10.0)


def means(scene: Scene) -> Means:
    """Return what the node of the first active knows and can do without the store."""
    world = scene.world
    machine = world.machine(ACTIVE)

    async def serves() -> bool:
        return machine.etcd and world.quorum()

    async def runs() -> bool:
        return await world.store.get(keys.OPERATION) is not None

    async def power_on(vm: str) -> None:
        if vm in world.machines:
            world.power_on(vm)

    def forget() -> None:
        machine.relied = ()

    return Means(lambda: machine.relied, forget, serves, runs, power_on)


class Loss(Life):
    """A process that lives on; at its n-th moment a machine loses its power."""

    def __init__(self, scene: Scene, at: int, lost: Callable[[Scene], str | None]) -> None:
        super().__init__()
        self._scene = scene
        self._at = at
        self._lost = lost
        self.happened = False
        self.moments_at_loss = 0

    async def before(self) -> None:
        await super().before()
        vm = self._lost(self._scene)
        if self.moments >= self._at and vm is not None and not self.happened:
            self.happened = True
            self.moments_at_loss = self.moments
            self._scene.world.power_off(vm)


def new_passive(scene: Scene) -> str | None:
    """Return the VM of the node that votes already, once it does."""
    vm = scene.world.state.inventory.vm_by_name(NEW)
    members = {m.name for m in scene.world.members if not m.learner}
    votes = vm and any(name.startswith(NEW) for name in members)
    return vm.id if vm and votes and scene.world.machines[vm.id].on else None


def witness(scene: Scene) -> str | None:
    """Return the VM of the witness while the active's vote and its own are all that are left."""
    machine = scene.world.machine_of(WITNESS)
    relied = bool(scene.world.machine(ACTIVE).relied)
    return machine.identity.vm if machine and machine.on and relied else None


async def carried(scene: Scene, life: Life) -> TaskRecord:
    peers = asyncio.create_task(keep_peers_on(means(scene)))
    try:
        async with asyncio.timeout(LONG):
            await scene.carry(scene.process(life))
    finally:
        peers.cancel()
        await asyncio.wait([peers])
    return await scene.record()


async def each_moment(
    begin: Callable[[Scene], Awaitable[None]], lost: Callable[[Scene], str | None], first: int = 1
) -> AsyncIterator[tuple[Scene, TaskRecord]]:
    """Begin again and again, each time with the loss a moment later, until it comes too late."""
    at = first
    while True:
        scene = Scene()
        await begin(scene)
        life = Loss(scene, at, lost)
        record = await carried(scene, life)
        if not life.happened:
            await scene.end()
            return
        # A store that stops for a moment is what this is about; nothing else may happen.
        assert [v for v in scene.world.violations if not v.startswith("no quorum since")] == []
        yield scene, record
        await scene.end()
        at = life.moments_at_loss + STRIDE


@pytest.mark.usefixtures("scene")
async def test_deploy_goes_on_though_the_second_node_dies_before_the_third_votes() -> None:
    """At every moment from its vote on: it ends with three nodes or with one, and takes writes."""
    ends = set()
    async for scene, record in each_moment(begin_deploy, new_passive):
        assert record.finished
        assert scene.world.quorum()
        ends.add(record.status)
        if record.status is TaskStatus.SUCCEEDED:
            names = [node.name for node in (await scene.world.config()).nodes]
            assert names == ["vcha-1", NEW, NEW_WITNESS]
        else:
            assert [member.name for member in scene.world.members] == [ACTIVE]
    assert TaskStatus.SUCCEEDED in ends


@pytest.mark.usefixtures("scene")
async def test_redeploy_goes_on_though_the_witness_dies_while_two_vote() -> None:
    """From the moment in which the lost passive's vote is taken, to the new one's."""
    times = 0
    async for scene, record in each_moment(begin_redeploy, witness):
        assert record.finished
        assert scene.world.quorum()
        times += 1
    assert times > 1


@pytest.mark.usefixtures("scene")
async def test_undeploy_goes_on_though_the_last_other_voter_dies() -> None:
    """Each of two is needed to take the other's vote."""

    async def begin(scene: Scene) -> None:
        await scene.healthy()
        await scene.undeploy(UndeploySpec(force_delete=True))

    def voter(scene: Scene) -> str | None:
        votes = {member.name for member in scene.world.members}
        machine = scene.world.machine_of(WITNESS)
        alone = votes == {ACTIVE, WITNESS}
        return machine.identity.vm if machine and machine.on and alone else None

    times = 0
    async for scene, record in each_moment(begin, voter):
        assert record.status is TaskStatus.SUCCEEDED, record.error
        assert [member.name for member in scene.world.members] == [ACTIVE]
        times += 1
    assert times


async def test_without_a_task_nobody_is_powered_on(scene: Scene) -> None:
    """What a person has switched off stays off, and what was relied upon is forgotten."""
    await scene.cluster()
    world = scene.world
    world.machine(ACTIVE).relied = (world.machine(WITNESS).identity.vm,)
    peers = asyncio.create_task(keep_peers_on(means(scene)))
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert world.machine(ACTIVE).relied == ()
    world.kill(WITNESS)
    await asyncio.sleep(60)
    assert not world.machine(WITNESS).on
    peers.cancel()
    await asyncio.wait([peers])


async def test_an_election_is_no_reason(scene: Scene) -> None:
    """A store that is away for less than it takes to elect powers nobody on."""
    await begin_redeploy(scene)
    carrying = await scene.until("clone.passive")
    world = scene.world
    on: list[str] = []
    found = means(scene)

    async def power_on(vm: str) -> None:
        on.append(vm)

    watching = Means(
        lambda: ("vm-1",), found.rely_on_nobody, found.store_serves, found.task_runs, power_on
    )
    peers = asyncio.create_task(keep_peers_on(watching))
    await asyncio.sleep(LOOK_SECONDS)
    world.faults.add("no quorum")
    await asyncio.sleep(STOPPED_SECONDS - 2 * LOOK_SECONDS)
    world.faults.discard("no quorum")
    await asyncio.sleep(10)
    assert on == []
    peers.cancel()
    await asyncio.wait([peers])
    await carrying
    await scene.validate_renewed()


async def test_a_power_on_that_is_refused_is_tried_again(scene: Scene) -> None:
    """Also the others are powered on; the infrastructure may be away for a while itself."""
    del scene
    asked: list[str] = []

    async def power_on(vm: str) -> None:
        asked.append(vm)
        if vm == "vm-1":
            raise ApiError(ErrorType.SERVICE_UNAVAILABLE, message("no.active"))

    async def no() -> bool:
        return False

    watching = Means(lambda: ("vm-1", "vm-2"), asked.clear, no, no, power_on)
    peers = asyncio.create_task(keep_peers_on(watching))
    await asyncio.sleep(2.5 * (STOPPED_SECONDS + LOOK_SECONDS))
    assert asked == ["vm-1", "vm-2"] * 2
    assert not peers.done()
    peers.cancel()
    await asyncio.wait([peers])
