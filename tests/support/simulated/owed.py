"""What the active of a simulated cluster does about deletions that are owed."""

from tests.support.simulated.process import Process
from tests.support.simulated.scenes import ClusterScenario

from openvcha.cluster.owed_deletions import OwedDeletion, read_owed
from openvcha.daemon.keepers.deletions import DeletionKeeper


def keeper(process: Process) -> DeletionKeeper:
    """Return the keeper of a process."""
    services = process.services
    member = services.identity.member
    return DeletionKeeper(
        services.store, services.infrastructure, member, services.observer.observe
    )


async def owed(scene: ClusterScenario) -> tuple[OwedDeletion, ...]:
    """Return what is owed."""
    return await read_owed(scene.world.store)
