"""Operations on a simulated cluster, each begun and not carried out."""

from collections.abc import Awaitable, Callable

from tests.support.simulated.deploy import spec as deploy_spec
from tests.support.simulated.manual import spec as manual_spec
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.structures import ModeClusterMode, UndeploySpec
from openvcha.operations.failover import fail_over

Begin = Callable[[ClusterScenario], Awaitable[None]]


async def redeploy(scene: ClusterScenario) -> None:
    """Begin the redeployment of a lost passive."""
    await scene.cluster()
    await scene.redeploy()


async def redeploy_witness(scene: ClusterScenario) -> None:
    """Begin the redeployment of a lost witness."""
    await scene.cluster("vcha-3")
    await scene.redeploy_witness()


async def deploy(scene: ClusterScenario) -> None:
    """Begin the automatic deployment of a single node."""
    await scene.single()
    await scene.deploy(deploy_spec())


async def prepare(scene: ClusterScenario) -> None:
    """Begin the manual deployment of a single node."""
    await scene.single()
    await scene.deploy(manual_spec())


async def undeploy(scene: ClusterScenario) -> None:
    """Begin the undeployment of a healthy cluster."""
    await scene.healthy()
    await scene.undeploy(UndeploySpec(force_delete=True))


async def planned(scene: ClusterScenario) -> None:
    """Begin a planned failover."""
    await scene.healthy()
    scene.task = await fail_over(scene.process().services, CALLER, True)


async def forced(scene: ClusterScenario) -> None:
    """Begin a forced failover."""
    await scene.healthy()
    scene.task = await fail_over(scene.process().services, CALLER, False)


async def disable(scene: ClusterScenario) -> None:
    """Begin to disable the cluster."""
    await scene.healthy()
    await scene.set_mode(ModeClusterMode.DISABLED)


async def enable(scene: ClusterScenario) -> None:
    """Disable the cluster, and begin to enable it."""
    await disable(scene)
    await scene.carry()
    await scene.set_mode(ModeClusterMode.ENABLED)
