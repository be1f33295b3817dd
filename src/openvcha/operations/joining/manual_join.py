"""The manual join: a node with a token gets its files, and a task makes it a member."""

from collections.abc import Callable
from functools import partial

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import (
    JoinInfo,
    JoinRole,
    JoinSpec,
    JoinToken,
    JoinTokenSpec,
    JoinTokenSummary,
)
from openvcha.cluster import preconditions
from openvcha.cluster.config import NodeKind
from openvcha.cluster.observing.observation import Observation
from openvcha.infrastructure.placement import usable_name
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.join_tokens import (
    TokenRecord,
    claimed,
    issuer_remains,
    new_token,
    require_issuer,
    require_token,
    spent,
    token_record,
)
from openvcha.operations.joining.admission import answer, registered, requested
from openvcha.operations.preconditions import settled
from openvcha.operations.shown_inventory import shown_inventory
from openvcha.operations.steps.manual_join_steps import JOIN, JOINING, JoinArguments
from openvcha.store.errors import RecordMissing
from openvcha.store.records import encode
from openvcha.tasks.record import TaskRecord

KINDS = {JoinRole.PASSIVE: NodeKind.DATA, JoinRole.WITNESS: NodeKind.WITNESS}


async def issue_token(services: Services, caller: Caller, spec: JoinTokenSpec) -> JoinToken:
    """Create the token of a role; it invalidates the previous one."""
    running = await services.journal.running()
    if running is not None and _is_for(running, spec.role):
        raise running.busy_error
    address = _address(await _settled(services, spec.role), spec.role)
    token, record = new_token(address, caller.user, caller.generation, services.journal.clock())
    key = token_record(services.store, spec.role).key
    await services.store.put(key, encode(record))
    return JoinToken(token=token, role=spec.role, ha_address=address, expires=record.expires)


async def list_tokens(services: Services, caller: Caller) -> tuple[JoinTokenSummary, ...]:
    """Return the token of each role that has one; none can be used again after its task."""
    del caller
    found = {role: await token_record(services.store, role).read_valid() for role in JoinRole}
    return tuple(
        [
            await _summary(services, role, stored.value)
            for role, stored in found.items()
            if stored is not None
        ]
    )


async def revoke_token(services: Services, caller: Caller, spec: JoinTokenSpec) -> None:
    """Delete the token of a role, even a forged one. Raises ApiError NOT_FOUND."""
    del caller
    if not await token_record(services.store, spec.role).delete():
        none = message("join.token.none", spec.role.value.lower())
        raise ApiError(ErrorType.NOT_FOUND, none)


async def join_manually(services: Services, spec: JoinSpec) -> JoinInfo:
    """Admit a node with an Administrator's token; the first call starts the task of the join.

    Raises ApiError INVALID_ARGUMENT, NOT_ALLOWED_IN_CURRENT_STATE; RESOURCE_BUSY: try again.
    """
    found = await _valid_token(services, spec)
    public_key = requested(spec)
    spent(found, found.digest, public_key)
    task = await _task_of(services, found, spec)
    if task is None:
        await _require_possible(services, spec)
        digest = found.digest
        found = await _changed(services, spec.role, lambda now: spent(now, digest, public_key))
        task = await _begin(services, found, spec)
    node = await registered(services, task.id, spec)
    await _valid_token(services, spec)  # it may have been revoked during the wait
    return await answer(services, node, task.id, public_key)


async def _valid_token(services: Services, spec: JoinSpec) -> TokenRecord:
    """Return the record of a valid token. Raises ApiError INVALID_ARGUMENT."""
    known = await token_record(services.store, spec.role).read_valid()
    found = require_token(known.value if known else None, spec, services.journal.clock())
    await require_issuer(found, services.administrator)
    return found


async def _changed(
    services: Services, role: JoinRole, change: Callable[[TokenRecord], TokenRecord]
) -> TokenRecord:
    """Change the record of a token. Raises ApiError INVALID_ARGUMENT if it was revoked."""
    try:
        return await token_record(services.store, role).update(change, idempotent=True)
    except RecordMissing as error:
        invalid = message("join.token.invalid", role.value.lower())
        raise ApiError(ErrorType.INVALID_ARGUMENT, invalid) from error


async def _summary(services: Services, role: JoinRole, token: TokenRecord) -> JoinTokenSummary:
    return JoinTokenSummary(
        role=role,
        ha_address=token.ha_address,
        issuer=token.issuer,
        expires=token.expires,
        used=bool(token.spent_by),
        valid=await _usable(services, token),
        task=token.task or None,
    )


async def _usable(services: Services, token: TokenRecord) -> bool:
    """Return whether ``join`` would accept the token."""
    if token.task:
        running = await services.journal.running()
        in_time = running is not None and running.id == token.task and not running.cancel_requested
    else:
        in_time = services.journal.clock() < token.expires
    return in_time and await issuer_remains(token, services.administrator)


async def _settled(services: Services, role: JoinRole) -> Observation:
    seen, _ = await settled(services, partial(preconditions.why_not_join, KINDS[role]))
    return seen


def _address(seen: Observation, role: JoinRole) -> str:
    """Return the HA address planned for this role. Raises ApiError NOT_ALLOWED_IN_CURRENT_STATE."""
    kind = KINDS[role]
    if refusal := preconditions.why_not_join(kind, seen):
        raise refusal.error
    old = seen.witness if kind is NodeKind.WITNESS else seen.passive
    node = seen.config.planned_node(kind) or (old.config if old else None)
    if node is None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("join.not.prepared"))
    return node.ha_address


async def _require_possible(services: Services, spec: JoinSpec) -> None:
    if not usable_name(spec.name):
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("join.name", spec.name))
    # The task would only wait, and a token is spent by its task.
    if services.credentials.pending():
        raise ApiError(ErrorType.RESOURCE_BUSY, message("credentials.pending"))
    seen = await _settled(services, spec.role)
    _address(seen, spec.role)
    inventory = await shown_inventory(services)
    names = {node.name.casefold() for node in seen.config.nodes}
    names |= {node.name.casefold() for node in seen.config.planned}
    in_inventory = inventory is not None and inventory.vm_by_name(spec.name) is not None
    if in_inventory or spec.name.casefold() in names:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("join.name", spec.name))


async def _task_of(services: Services, token: TokenRecord, spec: JoinSpec) -> TaskRecord | None:
    """Return the task created with this token, even if the call failed before storing its id."""
    if token.task:
        return await services.journal.read(token.task)
    running = await services.journal.running()
    if running is None or not _is_for(running, spec.role):
        return None
    begun = msgspec.convert(running.arguments, JoinArguments)
    return running if begun.digest == token.digest else None


async def _begin(services: Services, token: TokenRecord, spec: JoinSpec) -> TaskRecord:
    role = spec.role.value.lower()
    task = await services.journal.create(
        service=JOINING,
        operation="join",
        description=message("join.node", spec.name, role),
        user=token.issuer,
        arguments=JoinArguments(role=role, name=spec.name, digest=token.digest),
    )
    await _changed(
        services,
        spec.role,
        # Another call with the same key may have begun a task; the second one fails.
        lambda now: claimed(now, token.digest, task.id) if now.digest == token.digest else now,
    )
    return task


def _is_for(task: TaskRecord, role: JoinRole) -> bool:
    if task.operation_id != JOIN:
        return False
    return msgspec.convert(task.arguments, JoinArguments).role == role.value.lower()
