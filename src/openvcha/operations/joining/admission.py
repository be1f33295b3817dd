"""The admission of a new node, whoever creates it: its files, once the store expects it."""

import asyncio

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import JoinInfo, JoinSpec
from openvcha.cluster import membership
from openvcha.node.security.certificates import requested_key
from openvcha.operations.context import Services
from openvcha.operations.steps.creation.bootstrap_files import joining_files_of
from openvcha.operations.steps.new_node import NewNode, decided_node
from openvcha.tasks.record import Phase, TaskRecord
from openvcha.tasks.steps import TemporaryFailure

ANSWER_SECONDS = 20.0
"""Shorter than a client's timeout; a retry finds the same task."""
POLL_SECONDS = 0.05


def requested(spec: JoinSpec) -> bytes:
    """Return the public key (DER) of a node's request. Raises ApiError INVALID_ARGUMENT."""
    try:
        return requested_key(spec.certificate_request.encode(), spec.ha_address)
    except ValueError as error:
        said = message("join.request", str(error).rstrip("."))
        raise ApiError(ErrorType.INVALID_ARGUMENT, said) from error


def require_going_on(task: TaskRecord) -> None:
    """Raise ApiError NOT_ALLOWED_IN_CURRENT_STATE if the task admits no node any more."""
    if task.finished or task.cancel_requested or task.phase is Phase.UNDO:
        causes = task.error.messages if task.error else ()
        over = message("join.over", task.id)
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, over, *causes)


async def registered(services: Services, task_id: str, spec: JoinSpec) -> NewNode:
    """Return the node once etcd expects it as a learner: it could not start before.

    Raises ApiError: NOT_ALLOWED_IN_CURRENT_STATE, RESOURCE_BUSY when the call must be repeated.
    """
    deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
    while True:
        task = await services.journal.read(task_id)
        require_going_on(task)
        node = decided_node(task, spec.role.value.lower())
        if node is not None and node.vm is not None:
            url = services.peer_url(node.ha_address)
            if await membership.find_member(services.store, node.member, url):
                return node
        if asyncio.get_running_loop().time() >= deadline:
            raise ApiError(ErrorType.RESOURCE_BUSY, message("join.not.yet", task_id))
        await asyncio.sleep(POLL_SECONDS)


async def answer(services: Services, node: NewNode, task_id: str, public_key: bytes) -> JoinInfo:
    """Return the node's files. Raises ApiError RESOURCE_BUSY during a rotation."""
    try:
        files = await joining_files_of(services, node, public_key)
    except TemporaryFailure as error:
        raise ApiError(ErrorType.RESOURCE_BUSY, error.reason) from error
    shown = {path: Secret(content.decode()) for path, content in files.items()}
    return JoinInfo(member=node.member, task=task_id, files=shown)
