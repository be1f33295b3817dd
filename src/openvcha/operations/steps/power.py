"""Power of nodes: whether a node is certainly off, and writes to a node that is off."""

from collections.abc import Mapping

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import VmPowerState
from openvcha.cluster.config import NodeConfig
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Vm
from openvcha.tasks.steps import TemporaryFailure


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
