"""What a step does with a node that is off, and what is known of a node's power."""

from collections.abc import Mapping

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import VmPowerState
from openvcha.cluster.config import NodeConfig
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Vm
from openvcha.tasks.steps import Temporary


async def surely_off(infrastructure: Infrastructure, node: NodeConfig) -> bool:
    """Return whether a node has no power, or is gone; False where nobody here can know."""
    if not node.vm:
        return False
    try:
        vm = (await infrastructure.inventory()).vm(node.vm)
    except ApiError:
        return False
    return vm is None or vm.power_state is VmPowerState.POWERED_OFF


async def write_files(infrastructure: Infrastructure, vm: Vm, files: Mapping[str, bytes]) -> None:
    """Put files into a VM. Raises Temporary while it is on: somebody has started it meanwhile."""
    try:
        await infrastructure.write_files(vm.id, files)
    except ApiError as error:
        if error.error_type is not ErrorType.NOT_ALLOWED_IN_CURRENT_STATE:
            raise
        raise Temporary(message("fence.powered.on", vm.name)) from error
