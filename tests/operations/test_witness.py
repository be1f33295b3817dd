"""A redeploy of the witness through any failure: never four voters, never a lost quorum."""

import asyncio

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import SWEPT, CrashPoint
from tests.support.simulated.observations import ip
from tests.support.simulated.redeploy import PREFIX, message_ids, reasons
from tests.support.simulated.scenes import CALLER, NEW, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    ClusterState,
    VmPowerState,
    WitnessCheckSpec,
    WitnessRedeploySpec,
)
from openvcha.operations.reads import get_cluster
from openvcha.operations.redeploy import check_witness

pytestmark = SIMULATED

ACTIVE = "vcha-1-old"
PASSIVE = "vcha-2-old"
OLD = "vcha-3-old"
LOST = "vcha-3"


async def lost(scene: ClusterScenario) -> None:
    """Return a cluster whose witness has lost its power, and whose passive is in sync."""
    await scene.cluster(lost=LOST)
    await scene.in_sync(PASSIVE)


async def begin(scene: ClusterScenario) -> None:
    await lost(scene)
    await scene.redeploy_witness()


async def moments(scene: ClusterScenario) -> int:
    """Return the number of moments of an undisturbed process."""
    await begin(scene)
    life = CrashPoint()
    await scene.carry(scene.process(life))
    await scene.validate_renewed(LOST)
    await scene.end()
    return life.moments


async def test_a_lost_witness_is_replaced(scene: ClusterScenario) -> None:
    """Three votes again, HEALTHY, and nothing of the old one left."""
    await begin(scene)
    await scene.carry()
    await scene.validate_renewed(LOST)
    info = await get_cluster(scene.process().services, CALLER)
    assert info.health_state is ClusterState.HEALTHY


async def test_at_another_address(scene: ClusterScenario) -> None:
    """And at its own."""
    await lost(scene)
    spec = WitnessRedeploySpec(placement=placement(), ha_ip=ip("127.83.2.99"))
    await scene.redeploy_witness(spec)
    await scene.carry()
    await scene.validate_renewed(LOST)
    witness = (await scene.world.config()).witness
    assert witness
    assert witness.ha_address == "127.83.2.99"


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on_to_its_end(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """Whatever the process was doing, its successor finds it and finishes."""
    total = await moments(scene)
    assert total > 15
    for dies_at in range(1, total + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        await again.carry()
        await again.validate_renewed(LOST)
        await again.end()


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_the_active_lost_at_any_moment_costs_no_acknowledged_write(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """Where the passive and the new witness have quorum, it takes over and goes on from there.

    Otherwise the active comes back first. Once the old witness's vote is removed, both others are
    needed.
    """
    total = await moments(scene)
    outcomes = set()
    for dies_at in range(1, total + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        taken_over = await again.world.lose_leader()
        outcomes.add(taken_over)
        await asyncio.sleep(3)
        again.world.power_on(again.world.machine(ACTIVE).identity.vm)
        await again.primary()
        await again.carry()
        await again.validate_renewed(LOST)
        await again.end()
    assert outcomes == {False, True}


@pytest.mark.parametrize("step", ["fence", "clone.witness"])
async def test_cancelled_it_leaves_the_cluster_as_it_was(scene: ClusterScenario, step: str) -> None:
    """The half-made node is deleted, the two others vote; the next try succeeds."""
    await begin(scene)
    carrying = await scene.until(step)
    await scene.journal.request_cancel(scene.task)
    await carrying
    assert (await reasons(scene))[0] == "task.canceled"
    await scene.validate_as_before(LOST)
    await scene.redeploy_witness()
    await scene.carry()
    await scene.validate_renewed(LOST)


@SWEPT
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.usefixtures("scene")
async def test_killed_while_it_is_undone_it_is_undone_all_the_same(
    after: bool, stride: int
) -> None:
    """The new one never starts: every crash point of the way back."""
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await lost(again)
        again.world.faults.add("etcd never starts")
        await again.redeploy_witness()
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        assert "progress.promote" in await reasons(again)
        await again.validate_as_before(LOST)
        await again.end()
        dies_at += stride
    assert dies_at > 20


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.usefixtures("scene")
async def test_it_has_an_account_exactly_as_long_as_it_votes(after: bool) -> None:
    """The fence was interrupted, the old witness came back healthy: it must be able to read.

    Once its vote is gone, its account is too, whether the task goes on or ends.
    """
    kept, dies_at, fenced = set(), 1, False
    while not fenced:
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        fenced = (await again.record()).step == "clone.witness"
        again.world.power_on(again.world.machine(OLD).identity.vm)
        await asyncio.sleep(2)
        if dies_at % 2:
            await again.journal.request_cancel(again.task)
        await again.carry()
        assert (await again.record()).finished
        votes = OLD in {member.name for member in again.world.members}
        assert (OLD in again.world.store.accounts.known) is votes
        kept.add(votes)
        await again.end()
        dies_at += 1
    assert kept == {False, True}


async def test_a_witness_that_is_up_is_not_replaced(scene: ClusterScenario) -> None:
    """The check refuses it, and so does the task when it came back in between."""
    await begin(scene)
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await asyncio.sleep(2)
    await scene.carry()
    assert "witness.healthy" in await reasons(scene)
    assert scene.world.machine(OLD).etcd
    with pytest.raises(ApiError) as caught:
        await scene.redeploy_witness()
    assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert message_ids(caught.value) == ["witness.healthy"]
    found = await check_witness(
        scene.process().services, CALLER, WitnessCheckSpec(placement=placement())
    )
    assert [error.id for error in found.errors] == [f"{PREFIX}witness.healthy"]


async def test_the_old_witness_started_again_by_a_person_changes_nothing(
    scene: ClusterScenario,
) -> None:
    """It has no vote any more; at the end it is deleted."""
    await lost(scene)
    scene.world.faults.add("slow etcd")
    spec = WitnessRedeploySpec(placement=placement(), ha_ip=ip("127.83.2.99"))
    await scene.redeploy_witness(spec)
    carrying = await scene.until("clone.witness")
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await carrying
    await scene.validate_renewed(LOST)


async def test_the_remains_go_though_the_active_just_starts(scene: ClusterScenario) -> None:
    """A witness has no copy of the data, so there is nothing to guard."""
    await begin(scene)
    await scene.die_in("commit")
    scene.world.machine(ACTIVE).postgres = "starting"
    carrying = await scene.until("commit")
    await asyncio.sleep(5)
    assert scene.world.state.inventory.vm_by_name(LOST) is None
    scene.world.machine(ACTIVE).postgres = "primary"
    await carrying
    await scene.validate_renewed(LOST)


async def test_the_task_is_refused_with_all_that_the_check_finds(scene: ClusterScenario) -> None:
    """The same list, and nothing was changed."""
    await lost(scene)
    wrong = placement("vcha-1")
    found = await check_witness(scene.process().services, CALLER, WitnessCheckSpec(placement=wrong))
    assert found.errors
    await scene.redeploy_witness(WitnessRedeploySpec(placement=wrong))
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert error.messages[1:] == found.errors
    await scene.validate_as_before(LOST)


async def test_the_new_witness_holds_no_data(scene: ClusterScenario) -> None:
    """Its VM is on, and its kind is that of a witness."""
    await begin(scene)
    await scene.carry()
    inventory = await scene.process().services.infrastructure.inventory(power=True)
    vm = inventory.vm_by_name(NEW)
    assert vm is not None
    assert vm.power_state is VmPowerState.POWERED_ON
    machine = scene.world.machines[vm.id]
    assert machine.identity.kind == "witness"
    assert machine.written == -1
