"""Deleting the VM of a node that the cluster does not need any more."""

from openvcha.api.errors import ApiError
from openvcha.api.file_errors import file_refusal
from openvcha.api.structures import LocalizableMessage
from openvcha.infrastructure.interface import Infrastructure
from openvcha.operations.waiting import wait_until
from openvcha.tasks.steps import TaskContext

DELETE_SECONDS, DELETE_PAUSE = 60.0, 1.0


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
