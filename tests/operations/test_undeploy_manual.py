"""Undeploying what a person created: prepared, with one node joined, or complete."""

import asyncio

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.manual import PREFIX, Hand, complete, prepared
from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.errors import ApiError
from openvcha.api.structures import ConfigState, JoinRole, TaskStatus

pytestmark = SIMULATED


async def validate_single(scene: ClusterScenario) -> None:
    """Check for one node, one vote, and no expected nodes."""
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    config = await scene.world.config()
    assert (config.state, config.deployment) == (ConfigState.NOTCONFIGURED, "NONE")
    assert len(config.nodes) == len(scene.world.members) == 1
    assert config.planned == ()
    assert scene.world.violations == []
    assert await scene.world.left_reports() == set()
    with pytest.raises(ApiError, match="No node is expected"):
        await Hand(scene, JoinRole.PASSIVE).ask()


async def test_what_is_only_prepared_is_given_up(scene: ClusterScenario) -> None:
    """No node has joined yet."""
    await prepared(scene)
    await scene.undeploy()
    await scene.carry()
    await validate_single(scene)


@pytest.mark.parametrize("role", JoinRole)
async def test_a_prepared_cluster_with_one_node_is_given_up(
    scene: ClusterScenario, role: JoinRole
) -> None:
    """Its vote is removed: then its etcd exits, and nothing else runs on it yet."""
    await prepared(scene)
    hand = Hand(scene, role)
    await hand.ask()
    await hand.come()
    await scene.undeploy()
    await scene.carry()
    await validate_single(scene)


async def test_that_manual_nodes_are_off_is_waited_for(scene: ClusterScenario) -> None:
    """The cluster cannot power them off; their directories belong to the person."""
    machines = await complete(scene)
    await scene.undeploy()
    carrying = asyncio.create_task(scene.carry())
    await asyncio.sleep(10)
    assert not carrying.done()
    scene.world.power_off(machines[JoinRole.PASSIVE])
    await carrying
    await validate_single(scene)


async def test_a_manual_node_that_stays_on_is_named(scene: ClusterScenario) -> None:
    """The task says what the person has to do, and another undeploy goes on from there."""
    machines = await complete(scene)
    scene.world.power_off(machines[JoinRole.WITNESS])
    await scene.undeploy()
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert record.error is not None
    assert f"{PREFIX}fence.still.answers" in {text.id for text in record.error.messages}
    scene.world.power_off(machines[JoinRole.PASSIVE])
    await scene.undeploy()
    await scene.carry()
    await validate_single(scene)
