"""The creation of a VM that takes its time: progress, cancel, crash, and a lost reply."""

import asyncio

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.redeploy import begin, reasons
from tests.support.simulated.scenes import NEW, ClusterScenario

from openvcha.api.structures import TaskStatus

pytestmark = SIMULATED


async def until_half_made(scene: ClusterScenario) -> str:
    """Wait until the new VM exists, but is not done; return its identifier."""
    async with asyncio.timeout(60):
        while not scene.world.unfinished:  # noqa: ASYNC110 - the state of the world
            await asyncio.sleep(0.01)
    (vm,) = scene.world.unfinished
    return vm


async def test_its_progress_is_that_of_the_task(scene: ClusterScenario) -> None:
    """It grows while the VM is created, and the node is started only then."""
    await begin(scene)
    scene.world.faults.add("creations are slow")
    carrying = await scene.until("clone.passive")
    vm = await until_half_made(scene)
    shown = []
    while vm in scene.world.unfinished:
        shown.append((await scene.record()).progress.completed)
        assert not scene.world.vm_on(vm)
        await asyncio.sleep(0.1)
    assert shown == sorted(shown)
    assert shown[-1] > shown[0]
    await carrying
    await scene.validate_renewed()


async def test_a_cancel_stops_it(scene: ClusterScenario) -> None:
    """What was half made is deleted."""
    await begin(scene)
    scene.world.faults.add("creations stop")
    carrying = await scene.until("clone.passive")
    await until_half_made(scene)
    await scene.journal.request_cancel(scene.task)
    await carrying
    assert (await reasons(scene))[0] == "task.canceled"
    await scene.validate_as_before()
    assert scene.world.unfinished == {}


@pytest.mark.parametrize("fault", ["creations are slow", "creations stop"])
async def test_after_a_crash_it_goes_on(scene: ClusterScenario, fault: str) -> None:
    """It is found by its token, also half made: there is no second VM."""
    await begin(scene)
    scene.world.faults.add(fault)
    life = CrashPoint()
    carrying = await scene.until("clone.passive", scene.process(life))
    vm = await until_half_made(scene)
    life.died.set()
    await carrying
    scene.world.faults.discard(fault)
    await scene.carry()
    await scene.validate_renewed()
    made = scene.world.state.inventory.vm_by_name(NEW)
    assert made is not None
    assert made.id == vm


async def test_a_lost_reply_creates_no_second_vm(scene: ClusterScenario) -> None:
    """The step is tried again, and finds the VM of its token."""
    await begin(scene)
    carrying = await scene.until("clone.passive")
    scene.world.faults.add("replies are lost")
    await asyncio.sleep(3)
    scene.world.faults.discard("replies are lost")
    await carrying
    await scene.validate_renewed()
    assert (await scene.record()).status is TaskStatus.SUCCEEDED
