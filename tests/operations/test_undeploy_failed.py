"""A failed undeploy restores Patroni's settings for a cluster, and reports what is left."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.deploy import spec as deploy_spec
from tests.support.simulated.scenes import CALLER, NEW_WITNESS, ClusterScenario, placement
from tests.support.simulated.undeploy import begin, validate_alone

from openvcha.api.structures import (
    ClusterMode,
    ModeClusterMode,
    PassiveRedeploySpec,
    TaskStatus,
    WitnessRedeploySpec,
)
from openvcha.cluster import mode_settings, modes, patroni_client
from openvcha.cluster.config import cluster_record
from openvcha.operations.reads import get_cluster
from openvcha.store import keys

pytestmark = SIMULATED

Fails = Callable[[ClusterScenario], Awaitable[None]]
PREFIX = "com.vmware.vcenter.vcha."
LEFT = {"synchronous_mode": False, "primary_start_timeout": 300, patroni_client.FAILSAFE: True}
UNFIT, UNFIT_ADVICE = "patroni.settings.unfit", "patroni.settings.unfit.recommendation"


async def fail_in_release(scene: ClusterScenario, *faults: str) -> None:
    """Fail every power-off once no commit waits for the standby any more."""
    await begin(scene)
    carrying = await scene.until("release")
    async with asyncio.timeout(60):
        while (await dynamic(scene))["synchronous_mode"]:  # noqa: ASYNC110 - Patroni's state
            await asyncio.sleep(0.01)
    scene.world.faults.update({"infrastructure busy", *faults})
    await carrying
    await fail(scene)


async def fail_in_renew(scene: ClusterScenario) -> None:
    """Keep Patroni from learning that it may run without the store."""
    await begin(scene)
    scene.world.faults.add("no failsafe")
    await scene.carry()
    await fail(scene)


async def fail(scene: ClusterScenario) -> None:
    assert (await scene.record()).status is TaskStatus.FAILED
    scene.world.faults.clear()
    # By then the two others are known to be silent.
    await asyncio.sleep(60)


async def dynamic(scene: ClusterScenario) -> mode_settings.Dynamic:
    return await mode_settings.record(scene.world.store).get() or {}


async def validate_protecting(scene: ClusterScenario) -> None:
    """Check that commits wait for the standby, if any, and that no node leads without the store."""
    found = await dynamic(scene)
    assert (found["synchronous_mode"], found["primary_start_timeout"]) == (True, 0)
    assert patroni_client.FAILSAFE not in found
    assert await scene.world.store.get(keys.PATRONI_FAILSAFE) is None
    assert scene.world.violations == []


async def warnings_and_advice(scene: ClusterScenario) -> dict[str, str]:
    """Return the health warnings by name, each with its recommendation's name."""
    info = await get_cluster(scene.process().services, CALLER, partial=True)
    return {
        found.error.id.removeprefix(PREFIX): found.recommendation.id.removeprefix(PREFIX)
        for found in info.health_warnings or ()
        if found.recommendation
    }


async def redeploy(scene: ClusterScenario) -> None:
    """Replace first the witness, then the passive, as the health recommends."""
    await scene.redeploy_witness(WitnessRedeploySpec(placement=placement(NEW_WITNESS)))
    await scene.carry()
    assert (await scene.record()).status is TaskStatus.SUCCEEDED, (await scene.record()).error
    await scene.redeploy(PassiveRedeploySpec(placement=placement()))
    await scene.carry()
    await scene.validate(TaskStatus.SUCCEEDED)


FAILING = pytest.mark.parametrize("fails", [fail_in_release, fail_in_renew])


@FAILING
async def test_a_failure_takes_back_what_was_set_in_patroni(
    scene: ClusterScenario, fails: Fails
) -> None:
    """Otherwise commits would not wait, or the primary would go on without the store."""
    await fails(scene)
    await validate_protecting(scene)
    assert UNFIT not in await warnings_and_advice(scene)


@FAILING
async def test_after_a_failure_the_nodes_can_be_redeployed(
    scene: ClusterScenario, fails: Fails
) -> None:
    """It is a cluster again, by the steps that the health recommends."""
    await fails(scene)
    await redeploy(scene)
    await validate_protecting(scene)
    assert await warnings_and_advice(scene) == {}


@FAILING
async def test_after_a_failure_another_undeploy_goes_on(
    scene: ClusterScenario, fails: Fails
) -> None:
    """From where the first one stopped."""
    await fails(scene)
    await scene.undeploy()
    await scene.carry()
    await validate_alone(scene, kept=True)


@FAILING
async def test_after_a_failure_a_node_without_a_vote_is_not_to_be_started(
    scene: ClusterScenario, fails: Fails
) -> None:
    """Its vote is gone and its files may be: only a redeploy helps."""
    await fails(scene)
    assert (await warnings_and_advice(scene))["node.lost"] == "node.removed.recommendation"


@pytest.mark.parametrize("mode", [ModeClusterMode.MAINTENANCE, ModeClusterMode.DISABLED])
async def test_after_a_failure_the_settings_are_those_of_the_mode(
    scene: ClusterScenario, mode: ModeClusterMode
) -> None:
    """The failed step had removed them; the cluster is still in that mode."""
    await scene.healthy()
    await scene.set_mode(mode)
    await scene.carry()
    await scene.undeploy()
    scene.world.faults.add("no failsafe")
    await scene.carry()
    await fail(scene)
    await validate_protecting(scene)
    wanted = modes.SETTINGS[ClusterMode(mode.value)]
    assert await mode_settings.requested(scene.world.store) == wanted
    assert UNFIT not in await warnings_and_advice(scene)
    await redeploy(scene)
    assert await mode_settings.requested(scene.world.store) == wanted
    assert await warnings_and_advice(scene) == {}


async def test_what_cannot_be_taken_back_is_told_and_a_redeploy_does_it(
    scene: ClusterScenario,
) -> None:
    """Patroni did not answer any more: the health names the settings, and how to restore them."""
    await fail_in_release(scene, "patroni silent")
    assert not (await dynamic(scene))["synchronous_mode"]
    assert (await warnings_and_advice(scene))[UNFIT] == UNFIT_ADVICE
    await redeploy(scene)
    await validate_protecting(scene)
    assert await warnings_and_advice(scene) == {}


async def test_a_renewal_that_goes_on_keeps_what_it_needs(scene: ClusterScenario) -> None:
    """Patroni would step down while the store restarts; what is left is reported."""
    await begin(scene)
    scene.world.faults.add("never renewed")
    await scene.carry()
    assert (await scene.record()).status is TaskStatus.FAILED
    await fail(scene)
    assert scene.world.violations == []
    assert not scene.process().services.credentials.pending()
    assert (await warnings_and_advice(scene))[UNFIT] == UNFIT_ADVICE
    await redeploy(scene)
    await validate_protecting(scene)


async def test_a_deployment_sets_what_was_left_of_a_cluster(scene: ClusterScenario) -> None:
    """Whatever settings the single node was left with."""
    await scene.single()
    await scene.world.configure_patroni(LEFT)
    await scene.deploy(deploy_spec())
    await scene.carry()
    await scene.validate(TaskStatus.SUCCEEDED)
    await validate_protecting(scene)


@pytest.mark.parametrize("left", LEFT)
async def test_settings_that_are_not_those_of_a_cluster_are_told(
    scene: ClusterScenario, left: str
) -> None:
    """By name, with their required values."""
    await scene.healthy()
    assert UNFIT not in await warnings_and_advice(scene)
    await scene.world.configure_patroni({left: LEFT[left]})
    info = await get_cluster(scene.process().services, CALLER, partial=True)
    (said,) = (w.error for w in info.health_warnings or () if w.error.id == PREFIX + UNFIT)
    assert left in said.default_message
    assert not any(other in said.default_message for other in LEFT if other != left)


@pytest.mark.parametrize(
    ("mode", "on", "fits"),
    [
        (ClusterMode.ENABLED, (), True),
        (ClusterMode.ENABLED, (keys.PAUSE,), False),
        (ClusterMode.MAINTENANCE, (keys.PAUSE, keys.ALONE), True),
        (ClusterMode.MAINTENANCE, (), False),
        (ClusterMode.DISABLED, (keys.PAUSE, keys.ALONE, keys.DETACHED), True),
        (ClusterMode.DISABLED, (keys.PAUSE, keys.ALONE), False),
    ],
)
async def test_settings_that_are_not_those_of_the_mode_are_told(
    scene: ClusterScenario, mode: ClusterMode, on: tuple[str, ...], fits: bool
) -> None:
    """After a change that failed half-way; never while one runs, which is always half-way."""
    await scene.healthy()
    record = cluster_record(scene.world.store)
    await record.update(lambda config: msgspec.structs.replace(config, mode=mode))
    await scene.world.configure_patroni(dict.fromkeys(on, True))
    assert (UNFIT not in await warnings_and_advice(scene)) is fits
    await scene.undeploy()
    assert UNFIT not in await warnings_and_advice(scene)
