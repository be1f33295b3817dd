"""The VMs of nodes: whether one is certainly off, writes to one that is off, and deletion."""

from collections.abc import Mapping

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.file_errors import file_refusal
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage, VmPowerState
from openvcha.cluster.config import NodeConfig
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Vm
from openvcha.operations.waiting import wait_until
from openvcha.tasks.steps import TaskContext, TemporaryFailure

DELETE_SECONDS, DELETE_PAUSE = 60.0, 1.0


async def surely_off(infrastructure: Infrastructure, node: NodeConfig) -> bool:
    """Return whether a node is certainly off or gone; False when that is unknown here."""
    if not node.vm:
        return False
    try:
        vm = (await infrastructure.inventory()).vm(node.vm)
    except ApiError:
        return False
    return vm is None or vm.power_state is VmPowerState.POWERED_OFF


async def write_files(infrastructure: Infrastructure, vm: Vm, files: Mapping[str, bytes]) -> None:
    """Write files to a VM. Raises TemporaryFailure if it was powered on meanwhile."""
    try:
        await infrastructure.write_files(vm.id, files)
    except ApiError as error:
        if error.error_type is not ErrorType.NOT_ALLOWED_IN_CURRENT_STATE:
            raise
        raise TemporaryFailure(message("fence.powered.on", vm.name)) from error


async def delete_vm(
    ctx: TaskContext, infrastructure: Infrastructure, vm_id: str, fraction: float = 0.5
) -> None:
    """Delete a VM if it is there; try for a while. Raises ApiError or OSError."""

    async def there() -> LocalizableMessage | None:
        # An administrator may have deleted it meanwhile.
        if (await infrastructure.inventory()).vm(vm_id) is not None:
            await infrastructure.delete_vm(vm_id)
        return None

    await wait_until(ctx, there, DELETE_SECONDS, fraction, pause=DELETE_PAUSE)


def why_left(error: ApiError | OSError) -> str:
    """Return why a VM is left; the last message of a timeout is its cause."""
    if isinstance(error, ApiError):
        return error.messages[-1].default_message if error.messages else str(error)
    refusal = file_refusal(error)
    return refusal.default_message if refusal else str(error)
