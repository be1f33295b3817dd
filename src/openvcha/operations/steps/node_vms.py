"""The VMs of nodes: whether one is certainly off, writes to one that is off, and deletion."""

from collections.abc import Mapping
from dataclasses import dataclass

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.file_errors import file_refusal
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.owed_deletions import OwedDeletion, owe
from openvcha.infrastructure.interface import Infrastructure, NodeRequest
from openvcha.node.layout import STATUS
from openvcha.node.process.status import BOOTSTRAP, read_status
from openvcha.operations.context import Services
from openvcha.operations.waiting import wait_until
from openvcha.store.errors import RecordUnreadable
from openvcha.tasks.steps import TaskContext, TemporaryFailure

CREATE_PAUSE = 0.5
HOST_SILENT = "its host does not respond"
DELETE_SECONDS, DELETE_PAUSE = 60.0, 1.0


@dataclass(frozen=True)
class RemovedNode:
    """A node that is removed: ``data`` says whether it has a copy of the protected data."""

    vm: str
    name: str
    member: str
    data: bool


async def surely_off(infrastructure: Infrastructure, node: NodeConfig) -> bool:
    """Return whether a node is certainly off or gone; False when that is unknown here."""
    if not node.vm:
        return False
    try:
        return (await infrastructure.node(node.vm)).power.certainly_off
    except (ApiError, RecordUnreadable):
        return False


async def write_files(
    infrastructure: Infrastructure, vm_id: str, name: str, files: Mapping[str, bytes]
) -> None:
    """Write files to a VM. Raises TemporaryFailure if it was powered on meanwhile."""
    try:
        await infrastructure.write_files(vm_id, files)
    except ApiError as error:
        if error.error_type is not ErrorType.NOT_ALLOWED_IN_CURRENT_STATE:
            raise
        raise TemporaryFailure(message("fence.powered.on", name)) from error


async def create_vm(
    ctx: TaskContext, infrastructure: Infrastructure, request: NodeRequest, share: float = 0.4
) -> str:
    """Create a VM, or continue its creation, and return its identifier once it is done.

    Its progress is the first ``share`` of the step's. Raises ApiError, Canceled.
    """
    creation = await infrastructure.begin(request)
    while not (creation.done and creation.vm):
        await ctx.progress(share * (creation.fraction or 0.0), creation.text)
        await ctx.pause(CREATE_PAUSE)
        creation = await infrastructure.observe(creation)
    return creation.vm


async def bootstrap_note(infrastructure: Infrastructure, vm_id: str) -> str | None:
    """Return what a new node waits for before it has joined, or why it was refused, if it says so.

    Raises ApiError, OSError if its status cannot be read.
    """
    content = await infrastructure.read_file(vm_id, STATUS)
    status = read_status(content)
    return status.notes.get(BOOTSTRAP) if status else None


async def withdraw_vm(infrastructure: Infrastructure, token: str) -> str | None:
    """Cancel a creation and delete what it has left; return the VM whose deletion is owed.

    None: nothing is left. Raises TemporaryFailure while the creation cannot be stopped.
    """
    creation = await infrastructure.find(token)
    if creation is not None and not creation.done:
        await infrastructure.cancel(creation)
        creation = await infrastructure.find(token)
    if creation is None:
        return None
    if creation.vm is None:
        raise TemporaryFailure(message("clone.stopping", creation.id))
    return None if await infrastructure.delete(creation.vm) else creation.vm


async def delete_vm(
    ctx: TaskContext, infrastructure: Infrastructure, vm_id: str, fraction: float = 0.5
) -> bool:
    """Delete a VM if it is there; try for a while. Raises ApiError or OSError.

    Return False if its host cannot be reached: then the deletion is owed.
    """
    if not vm_id:
        return True
    deleted = False

    async def there() -> LocalizableMessage | None:
        nonlocal deleted
        deleted = await infrastructure.delete(vm_id)
        return None

    await wait_until(ctx, there, DELETE_SECONDS, fraction, pause=DELETE_PAUSE)
    return deleted


async def owe_deletion(
    services: Services, ctx: TaskContext, node: RemovedNode, reason: str
) -> bool:
    """Record that a removed node's VM must still be deleted; return False if it cannot be."""
    owed = OwedDeletion(
        vm=node.vm,
        name=node.name,
        member=node.member,
        data=node.data,
        since=services.journal.clock(),
        reason=reason,
    )
    return await owe(services.store, owed, [ctx.guard])


def why_left(error: ApiError | OSError) -> str:
    """Return why a VM is left; the last message of a timeout is its cause."""
    if isinstance(error, ApiError):
        return error.messages[-1].default_message if error.messages else str(error)
    refusal = file_refusal(error)
    return refusal.default_message if refusal else str(error)
