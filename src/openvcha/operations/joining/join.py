"""The call with which a new node joins: one that a task creates, or an administrator."""

import contextlib

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import JoinInfo, JoinSpec
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.join_tokens import (
    TokenRecord,
    boot_record,
    is_token_of,
    require_token,
    spent,
)
from openvcha.operations.joining.admission import answer, registered, requested, require_going_on
from openvcha.operations.joining.manual_join import join_manually
from openvcha.operations.steps.new_node import NewNode
from openvcha.operations.steps.votes.quorum import delete_account_without_vote
from openvcha.store.errors import RecordMissing, StoreError


async def join(services: Services, caller: Caller, spec: JoinSpec) -> JoinInfo:
    """Admit a node. The node may repeat the call until its task ends, with the same result.

    Raises ApiError INVALID_ARGUMENT, NOT_ALLOWED_IN_CURRENT_STATE; RESOURCE_BUSY: try again.
    """
    del caller
    known = await boot_record(services.store, _role(spec)).read_valid()
    if known is not None and is_token_of(known.value, spec.token):
        return await _join_created(services, known.value, spec)
    return await join_manually(services, spec)


async def _join_created(services: Services, token: TokenRecord, spec: JoinSpec) -> JoinInfo:
    """Admit the node that the token's task creates."""
    require_token(token, spec, services.journal.clock())
    public_key = requested(spec)
    await _spend(services, token, spec, public_key)
    node = await registered(services, token.task, spec)
    await _require_unconfigured(services, node, token.task)
    info = await answer(services, node, token.task, public_key)
    await _require_still(services, token, spec, node)
    return info


async def _spend(services: Services, token: TokenRecord, spec: JoinSpec, public_key: bytes) -> None:
    """Bind the token to the node's key. Raises ApiError INVALID_ARGUMENT if it is another's."""
    record = boot_record(services.store, _role(spec))
    try:
        await record.update(lambda now: spent(now, token.digest, public_key), idempotent=True)
    except RecordMissing as error:
        raise _invalid(spec) from error


async def _require_unconfigured(services: Services, node: NewNode, task: str) -> None:
    """Raise ApiError NOT_ALLOWED_IN_CURRENT_STATE if the cluster has the node already."""
    if (await services.observer.config()).node(node.member) is not None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("join.over", task))


async def _require_still(
    services: Services, token: TokenRecord, spec: JoinSpec, node: NewNode
) -> None:
    """Raise ApiError if the token became invalid meanwhile; then withdraw what it was given.

    The task may have been rolled back between its last check and the creation of the account.
    """
    try:
        require_going_on(await services.journal.read(token.task))
        known = await boot_record(services.store, _role(spec)).read_valid()
        if known is None or known.value.digest != token.digest:
            raise _invalid(spec)
    except ApiError:
        with contextlib.suppress(StoreError):  # the next task that creates a node does it too
            await delete_account_without_vote(services, node.member)
        raise


def _role(spec: JoinSpec) -> str:
    return spec.role.value.lower()


def _invalid(spec: JoinSpec) -> ApiError:
    return ApiError(ErrorType.INVALID_ARGUMENT, message("join.token.invalid", _role(spec)))
