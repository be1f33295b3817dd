"""Operations on nodes whose host does not respond: unknown is never taken for off.

Such a node is fenced by its vote and its silence, and its deletion is owed until its host is back.
"""

import asyncio

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.deploy import spec as deploy_spec
from tests.support.simulated.owed import keeper, owed
from tests.support.simulated.redeploy import PREFIX
from tests.support.simulated.scenes import CALLER, NEW, ClusterScenario
from tests.support.simulated.undeploy import arm, validate_renewed

from openvcha.api.structures import TaskStatus, UndeploySpec
from openvcha.infrastructure.interface import Power
from openvcha.operations.reads import get_cluster
from openvcha.operations.steps.votes.quorum import SILENT_SECONDS
from openvcha.store import keys
from openvcha.store.errors import Fenced
from openvcha.system.silence import SILENCE_SECONDS

pytestmark = SIMULATED

OLD = "vcha-2-old"
HOSTS = {"vcha-2": "host-12", "vcha-3": "host-13"}


def lose_host(scene: ClusterScenario, name: str = "vcha-2") -> None:
    scene.world.faults.add(f"{HOSTS[name]} is away")


def return_host(scene: ClusterScenario, name: str = "vcha-2") -> None:
    """Let a host come back; its node starts by itself, as a service does."""
    scene.world.faults.remove(f"{HOSTS[name]} is away")
    scene.world.power_on(scene.world.machine(f"{name}-old").identity.vm)


async def begin(scene: ClusterScenario, lost: str = "vcha-2") -> None:
    """Start to replace a node that was lost with its host."""
    await scene.cluster(lost)
    lose_host(scene, lost)
    await (scene.redeploy() if lost == "vcha-2" else scene.redeploy_witness())


async def validate_owed(scene: ClusterScenario, lost: str = "vcha-2") -> None:
    """Check that the node is replaced, and that what is left of the old one is known."""
    world, record = scene.world, await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    assert world.violations == []
    names = [NEW if name == lost else name for name in ("vcha-1", "vcha-2", "vcha-3")]
    assert [node.name for node in (await world.config()).nodes] == names
    assert f"{lost}-old" not in {member.name for member in world.members}
    vm = world.state.inventory.vm_by_name(lost)
    assert vm is not None
    (left,) = record.leftovers
    assert left.id == f"{PREFIX}commit.owed"
    assert (lost, vm.id) == left.args
    (debt,) = await owed(scene)
    assert (debt.vm, debt.name, debt.member, debt.data) == (
        vm.id,
        lost,
        f"{lost}-old",
        lost == "vcha-2",
    )


async def validate_settled(scene: ClusterScenario, lost: str = "vcha-2") -> None:
    """Check that nothing of the old node is left, nor owed."""
    assert scene.world.state.inventory.vm_by_name(lost) is None
    assert await owed(scene) == ()
    assert scene.world.violations == []
    info = await get_cluster(scene.process().services, CALLER)
    assert not info.health_warnings


@pytest.mark.parametrize("lost", ["vcha-2", "vcha-3"])
async def test_a_node_lost_with_its_host_is_replaced(scene: ClusterScenario, lost: str) -> None:
    """On another host; the task, the health and the store say what is owed."""
    await begin(scene, lost)
    await scene.carry()
    await validate_owed(scene, lost)
    info = await get_cluster(scene.process().services, CALLER)
    (warning,) = info.health_warnings or ()
    assert warning.error.id == f"{PREFIX}deletion.owed"
    assert lost in warning.error.default_message
    successor = scene.world.state.inventory.vm_by_name(NEW)
    assert successor is not None
    assert successor.host != HOSTS[lost]


@pytest.mark.parametrize("lost", ["vcha-2", "vcha-3"])
async def test_the_lost_host_comes_back(scene: ClusterScenario, lost: str) -> None:
    """Its node neither votes nor may take over, and is deleted with the next look."""
    await begin(scene, lost)
    await scene.carry()
    await keeper(scene.process()).settle_all()
    await validate_owed(scene, lost)
    return_host(scene, lost)
    await asyncio.sleep(60)
    assert f"{lost}-old" not in {member.name for member in scene.world.members}
    assert f"{lost}-old" not in await scene.world.standbys()
    assert await scene.world.leader() == "vcha-1-old"
    await keeper(scene.process()).settle_all()
    await validate_settled(scene, lost)
    await keeper(scene.process()).settle_all()


async def test_a_failover_loses_no_debt(scene: ClusterScenario) -> None:
    """The new active deletes what is owed; the former one does nothing any more."""
    await begin(scene)
    await scene.carry()
    former = scene.process()
    new = next(m.name for m in scene.world.members if m.name.startswith(NEW))
    await scene.in_sync(new)
    assert await scene.world.lose_leader()
    await scene.primary()
    assert await scene.world.leader() == new
    return_host(scene)
    with pytest.raises(Fenced):
        await keeper(former).settle_all()
    await validate_owed(scene)
    scene.world.power_on(scene.world.machine("vcha-1-old").identity.vm)
    await asyncio.sleep(60)
    await keeper(scene.process()).settle_all()
    assert await owed(scene) == ()
    assert scene.world.state.inventory.vm_by_name("vcha-2") is None


async def moments(scene: ClusterScenario) -> int:
    await begin(scene)
    life = CrashPoint()
    await scene.carry(scene.process(life))
    await validate_owed(scene)
    await scene.end()
    return life.moments


@pytest.mark.parametrize(
    "stride", [pytest.param(23, id="some"), pytest.param(3, id="all", marks=pytest.mark.soak)]
)
async def test_a_crash_at_any_moment_loses_no_debt(scene: ClusterScenario, stride: int) -> None:
    """The task continues where it stopped, and what it owes is recorded once."""
    for at in range(1, await moments(scene) + 1, stride):
        again = ClusterScenario()
        await begin(again)
        await again.carry(again.process(CrashPoint(at, after=True)))
        await again.carry()
        await validate_owed(again)
        await again.end()


async def test_a_node_that_still_responds_is_not_taken_for_off(scene: ClusterScenario) -> None:
    """Its host cannot be reached for the infrastructure, but the node is in the HA network."""
    await scene.cluster()
    scene.world.faults.add("never streams")
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await scene.look_on()
    for _ in range(10):
        await asyncio.sleep(2)
        await scene.process().services.observe()
    lose_host(scene)
    await scene.redeploy()
    carrying = await scene.until("fence")
    await asyncio.sleep(SILENCE_SECONDS)
    assert (await scene.record()).step == "fence"
    shown = (await scene.record()).progress.message
    assert shown.id == f"{PREFIX}fence.unreachable"
    assert "vcha-2" in shown.default_message
    scene.world.power_off(scene.world.machine(OLD).identity.vm)
    scene.world.faults.remove("never streams")
    await carrying
    await validate_owed(scene)


async def test_a_host_that_returns_while_its_node_is_fenced(scene: ClusterScenario) -> None:
    """The node is powered off and deleted as usual; nothing is owed."""
    await begin(scene)
    carrying = await scene.until("fence")
    await asyncio.sleep(SILENCE_SECONDS / 3)
    assert (await scene.record()).step == "fence"
    return_host(scene)
    await carrying
    await scene.validate_renewed()
    assert await owed(scene) == ()
    assert (await scene.record()).leftovers == ()


async def test_a_new_node_whose_host_is_lost_is_withdrawn(scene: ClusterScenario) -> None:
    """The task fails as before, names what is left, and another redeploy is possible at once."""
    await scene.cluster()
    scene.world.faults.add("etcd never starts")
    await scene.redeploy()
    carrying = await scene.until("clone.passive")
    async with asyncio.timeout(10):
        while (vm := scene.world.state.inventory.vm_by_name(NEW)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    scene.world.faults.add(f"{vm.host} is away")
    scene.world.power_off(vm.id)
    await carrying
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert record.error is not None
    assert f"{PREFIX}clone.owed" in {text.id for text in record.error.messages}
    assert [debt.vm for debt in await owed(scene)] == [vm.id]
    assert not any(member.learner for member in scene.world.members)
    scene.world.faults.clear()
    await keeper(scene.process()).settle_all()
    await scene.redeploy()
    await scene.carry()
    await scene.validate_renewed()


async def test_a_deployment_is_not_hindered_by_a_debt(scene: ClusterScenario) -> None:
    """What an earlier one could not delete makes the configuration not INVALID."""
    await scene.single()
    scene.world.faults.add("etcd never starts")
    await scene.deploy(deploy_spec())
    carrying = await scene.until("clone.passive")
    async with asyncio.timeout(10):
        while len(scene.world.state.inventory.vms) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    vm = scene.world.state.inventory.vms[-1]
    scene.world.faults.add(f"{vm.host} is away")
    scene.world.power_off(vm.id)
    await carrying
    assert (await scene.record()).status is TaskStatus.FAILED
    assert (await scene.world.config()).state.value == "NOTCONFIGURED"
    assert [debt.vm for debt in await owed(scene)] == [vm.id]


@pytest.mark.parametrize("delete", [True, False])
async def test_an_undeploy_leaves_what_it_cannot_reach(
    scene: ClusterScenario, *, delete: bool
) -> None:
    """The active goes on alone with new credentials; the task names the VM."""
    await scene.cluster()
    arm(scene)
    lose_host(scene)
    await scene.undeploy(UndeploySpec(force_delete=True) if delete else None)
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    assert scene.world.violations == []
    assert [member.name for member in scene.world.members] == ["vcha-1-old"]
    validate_renewed(scene)
    (left,) = record.leftovers
    assert left.id == f"{PREFIX}undeploy.{'owed' if delete else 'unreachable'}"
    assert [debt.name for debt in await owed(scene)] == (["vcha-2"] if delete else [])
    return_host(scene)
    await asyncio.sleep(60)
    assert await scene.world.leader() == "vcha-1-old"
    assert await scene.world.standbys() == frozenset()
    await keeper(scene.process()).settle_all()
    names = {vm.name for vm in scene.world.state.inventory.vms}
    assert names == ({"vcha-1"} if delete else {"vcha-1", "vcha-2", "vcha-3"})


async def test_an_undeploy_waits_until_who_cannot_be_reached_is_silent(
    scene: ClusterScenario,
) -> None:
    """The passive runs, but nobody can power it off: without a vote it ends by itself."""
    await scene.healthy()
    arm(scene)
    lose_host(scene)
    await scene.undeploy(UndeploySpec(force_delete=True))
    carrying = await scene.until("release")
    await asyncio.sleep(SILENCE_SECONDS)
    record = await scene.record()
    assert (record.step, record.progress.message.id) == ("release", f"{PREFIX}fence.still.answers")
    scene.world.power_off(scene.world.machine(OLD).identity.vm)
    await carrying
    assert (await scene.record()).status is TaskStatus.SUCCEEDED
    assert [debt.name for debt in await owed(scene)] == ["vcha-2"]


async def test_what_may_be_the_last_copy_is_not_deleted(scene: ClusterScenario) -> None:
    """Not by the keeper either: the active's PostgreSQL does not run."""
    await begin(scene)
    await scene.carry()
    return_host(scene)
    scene.world.machine("vcha-1-old").postgres = "starting"
    await keeper(scene.process()).settle_all()
    (debt,) = await owed(scene)
    assert "last copy" in debt.reason
    scene.world.machine("vcha-1-old").postgres = "primary"
    await keeper(scene.process()).settle_all()
    assert await owed(scene) == ()


async def test_a_deletion_that_fails_is_tried_again(scene: ClusterScenario) -> None:
    """Its reason is shown and written once; a debt is recorded for it too."""
    await scene.cluster()
    await scene.redeploy()
    carrying = await scene.until("commit")
    scene.world.faults.add("directory refused")
    await carrying
    (debt,) = await owed(scene)
    assert "refused" in debt.reason
    revision = scene.world.store.revision
    await keeper(scene.process()).settle_all()
    assert scene.world.store.revision == revision
    scene.world.faults.clear()
    await keeper(scene.process()).settle_all()
    await validate_settled(scene)


async def test_a_node_of_the_cluster_is_never_deleted(scene: ClusterScenario) -> None:
    """Whatever the record says: it is dropped."""
    await begin(scene)
    await scene.carry()
    successor = scene.world.state.inventory.vm_by_name(NEW)
    assert successor is not None
    stored = await scene.world.store.get(keys.OWED)
    assert stored is not None
    (debt,) = await owed(scene)
    wrong = stored.value.replace(debt.vm.encode(), successor.id.encode())
    await scene.world.store.put(keys.OWED, wrong)
    await keeper(scene.process()).settle_all()
    assert await owed(scene) == ()
    infrastructure = scene.process().services.infrastructure
    assert (await infrastructure.node(successor.id)).power is Power.ON


def test_the_wait_for_silence_is_longer_than_the_silence() -> None:
    """Otherwise no unreachable node could be fenced."""
    assert SILENT_SECONDS > 2 * SILENCE_SECONDS
