"""Required votes: before votes change, every node records which VMs must be on.

The record is in the store, and each node keeps a copy on its own disk
(node/background/required_votes.py). Votes change only after the voters have confirmed their copies.
The transaction that ends the task deletes the record.
"""

import asyncio

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.node.layout import REQUIRED_VOTES
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    decode_required_votes,
    encode_required_votes,
    kept,
    not_kept_reason,
)
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import ROLES, recall
from openvcha.operations.waiting import wait_until
from openvcha.store import keys
from openvcha.store.errors import Fenced, RecordForged
from openvcha.store.interface import Action, Delete, Get, KeyValue, Member, Put
from openvcha.tasks.steps import TaskContext, TemporaryFailure

OWN_SECONDS = 60.0
"""How long our own node may take: without its copy, no vote is changed."""
OTHERS_SECONDS = 10.0
"""How long other voters that respond may take; a silent one would power on no VM anyway."""
PROBE_SECONDS = 1.0


async def record_required_votes(services: Services, ctx: TaskContext) -> None:
    """Make all voters store durably which votes are required from now on.

    Raises Fenced, and WaitTimedOut when our own node does not.
    """
    wanted = await _required(services, ctx)
    revision = await _written(services, ctx, wanted)
    patience = asyncio.get_running_loop().time() + OTHERS_SECONDS

    async def unconfirmed() -> LocalizableMessage | None:
        said = {
            kv.key: kv.value for kv in await services.store.prefix(keys.REQUIRED_VOTES_CONFIRMED)
        }
        missing = {
            member: said.get(keys.required_votes_confirmed(member.name), b"")
            for member in await services.store.members()
            if member.name in wanted.nodes
            and not member.learner
            and said.get(keys.required_votes_confirmed(member.name)) != kept(revision)
        }
        return await _awaited(services, missing, patience)

    await wait_until(ctx, unconfirmed, OWN_SECONDS)


async def clear_required_votes(services: Services, ctx: TaskContext) -> None:
    """Clear the record, and check that our own node has deleted its copy.

    Raises Fenced, and TemporaryFailure while the node still has it.
    """
    store = services.store
    own = services.identity
    await _delete(services, ctx, keys.REQUIRED_VOTES)
    confirmed = keys.required_votes_confirmed(own.member)
    known = await store.get(confirmed)
    # A copy may lack its confirmation: the node died in between, or was created with the copy.
    if services.requires_votes():
        raise TemporaryFailure(_waits_for(own.name, known.value if known else b""))
    # The copy is deleted before its confirmation; the node may have died in between.
    if known is not None:
        await _delete(services, ctx, confirmed)


async def initial_required_votes(services: Services) -> dict[str, bytes]:
    """Return the file that gives a new node the record, if there is one.

    So the node has it before it can read the store itself.
    """
    known = await _known(services)
    if known is None:
        return {}
    required_votes = decode_required_votes(known.value)
    return {REQUIRED_VOTES: encode_required_votes(required_votes, services.journal.clock())}


async def _required(services: Services, ctx: TaskContext) -> RequiredVotes:
    config = await services.observer.config()
    old = str(ctx.state.get("old") or "")
    nodes = {node.member: node.vm for node in config.nodes if node.member != old}
    for node in [recall(ctx, role) for role in ROLES if role in ctx.state]:
        if node.vm is not None:
            nodes[node.member] = node.vm
    own = services.identity.member
    return RequiredVotes(task=ctx.record.id, active=own, nodes=nodes, gone=old)


async def _written(services: Services, ctx: TaskContext, wanted: RequiredVotes) -> int:
    """Write the record unless it is current; return its revision. Raises Fenced."""
    store, value = services.store, encode_required_votes(wanted)
    if (known := await _known(services)) is not None and known.value == value:
        return known.mod_revision
    said = await store.prefix(keys.REQUIRED_VOTES_CONFIRMED, keys_only=True)
    ours = {keys.required_votes_confirmed(member) for member in wanted.nodes}
    actions: list[Action] = [Delete(kv.key) for kv in said if kv.key not in ours]
    done = await store.txn(
        [ctx.guard], [Put(keys.REQUIRED_VOTES, value), *actions], [Get(ctx.guard.key)]
    )
    if not done.succeeded:
        raise Fenced(f"{keys.REQUIRED_VOTES}: another runner has taken over")
    return done.revision


async def _delete(services: Services, ctx: TaskContext, key: str) -> None:
    """Delete a key. Raises Fenced."""
    if not (await services.store.txn([ctx.guard], [Delete(key)])).succeeded:
        raise Fenced(f"{key}: another runner has taken over")


async def _known(services: Services) -> KeyValue | None:
    try:
        return await services.store.get(keys.REQUIRED_VOTES)
    except RecordForged:
        return None


async def _awaited(
    services: Services, missing: dict[Member, bytes], patience: float
) -> LocalizableMessage | None:
    """Return which nodes to wait for: our own, and for some time others that respond.

    ``missing`` has what each of them reports instead.
    """
    own = services.identity
    for member, said in missing.items():
        if member.name == own.member:
            return _waits_for(own.name, said)
    if not missing or asyncio.get_running_loop().time() >= patience:
        return None
    urls = [next(iter(member.client_urls), "") for member in missing]
    live = await asyncio.gather(
        *(services.store.healthy(url, PROBE_SECONDS) for url in urls if url)
    )
    return _waits_for(*next((m.name, said) for m, said in missing.items())) if any(live) else None


def _waits_for(name: str, said: bytes) -> LocalizableMessage:
    if reason := not_kept_reason(said):
        return message("progress.rely.disk", name, reason)
    return message("progress.rely", name)
