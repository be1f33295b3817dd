"""No task succeeds before the active holds the public address, and each says what is missing."""

import asyncio

import pytest
from tests.support.simulated.begun import (
    Begin,
    deploy,
    forced,
    planned,
    redeploy,
    redeploy_witness,
)
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.redeploy import reasons
from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.structures import TaskStatus
from openvcha.node.address.state import HELD, NOBODY, cannot, conflict
from openvcha.operations.steps.address import ADDRESS_SECONDS
from openvcha.store.address_reports import AddressState
from openvcha.tasks.record import TaskRecord

pytestmark = SIMULATED
PASSES_SECONDS = 20.0


EACH = pytest.mark.parametrize("begin", [redeploy, redeploy_witness, deploy, planned, forced])


async def shown(scene: ClusterScenario) -> set[str]:
    """Return every progress message of the task."""
    found = set()
    async for record in scene.journal.watch(scene.task):
        found.add(record.progress.message.id.removeprefix("com.vmware.vcenter.vcha."))
    return found


async def until_waiting(scene: ClusterScenario, reason: str) -> TaskRecord:
    """Return the task once it shows this reason."""
    async with asyncio.timeout(1000):
        async for record in scene.journal.watch(scene.task):
            if record.progress.message.id.endswith(reason):
                return record
    raise AssertionError(f"it never waits for {reason}")


@EACH
async def test_it_waits_until_the_address_is_held(scene: ClusterScenario, begin: Begin) -> None:
    """A node that has not reported is unknown, and a bad report is no verdict."""
    await begin(scene)
    await scene.world.report_address(None)
    carrying = asyncio.create_task(scene.carry_along())
    record = await until_waiting(scene, "progress.address.unknown")
    assert record.status is TaskStatus.RUNNING
    await scene.world.report_address(NOBODY)
    await asyncio.sleep(PASSES_SECONDS)
    assert (await scene.record()).status is TaskStatus.RUNNING
    await scene.world.report_address(HELD)
    await carrying
    await scene.validate(TaskStatus.SUCCEEDED)


@EACH
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "progress.address.unknown"),
        (NOBODY, "address.nobody"),
        (cannot("it is gone"), "address.cannot"),
        (conflict("02:00:00:00:00:01"), "address.conflict"),
    ],
)
async def test_it_fails_with_what_is_missing(
    scene: ClusterScenario, begin: Begin, state: AddressState | None, reason: str
) -> None:
    """At a deadline; until then the task shows the reason. What it has done stays."""
    await begin(scene)
    await scene.world.report_address(state)
    showing = asyncio.create_task(shown(scene))
    async with asyncio.timeout(1000):
        await scene.carry_along()
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert reason in await reasons(scene)
    assert reason in await showing
    assert scene.world.violations == []
    assert len([m for m in scene.world.members if not m.learner]) == 3


async def test_the_wait_has_a_deadline(scene: ClusterScenario) -> None:
    """Of a minute: a client has long noticed."""
    await forced(scene)
    await scene.world.report_address(NOBODY)
    began = asyncio.get_running_loop().time()
    await scene.carry_along()
    assert ADDRESS_SECONDS <= asyncio.get_running_loop().time() - began < 2 * ADDRESS_SECONDS
