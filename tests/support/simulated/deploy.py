"""A deployment of the simulated cluster, as a caller starts it."""

from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import NEW_WITNESS, ClusterScenario, placement

from openvcha.api.structures import (
    ActiveSpec,
    DeploySpec,
    DeployType,
    PassiveSpec,
    WitnessSpec,
)


def spec(
    active: ActiveSpec | None = None, passive: str = "127.83.2.12", witness: str = "127.83.2.13"
) -> DeploySpec:
    """Return the specification of a deployment on these addresses."""
    return DeploySpec(
        deployment=DeployType.AUTO,
        active=active or ActiveSpec(ha_ip=ip("127.83.2.11")),
        passive=PassiveSpec(placement=placement(), ha_ip=ip(passive)),
        witness=WitnessSpec(placement=placement(NEW_WITNESS), ha_ip=ip(witness)),
    )


async def begin(scene: ClusterScenario) -> None:
    """Start a deployment from a single node."""
    await scene.single()
    await scene.deploy(spec())
