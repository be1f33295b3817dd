"""A redeploy in the simulated cluster, as a caller starts it."""

from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.errors import ApiError

PREFIX = "com.vmware.vcenter.vcha."


def message_ids(error: ApiError) -> list[str]:
    """Return the ids of an error's messages, without their prefix."""
    return [text.id.removeprefix(PREFIX) for text in error.messages]


async def reasons(scene: ClusterScenario) -> list[str]:
    """Return the ids of the messages with which the task failed."""
    error = (await scene.record()).error
    assert error is not None
    return message_ids(error.to_error())


async def begin(scene: ClusterScenario) -> None:
    """Start a redeploy of the passive."""
    await scene.cluster()
    await scene.redeploy()
