"""Promotion of this node by an operator, rolled back completely if it fails.

The node's Patroni gets the leader key, with the lease of its own member key. During a pause it
would release the key at once, so a failover to it is requested too, with a lease that this command
renews. Nothing else changes: ``/sync`` and ``/status`` stay until Patroni itself writes them, right
before it promotes PostgreSQL. So every node that they allow to lead still may, if this node is
lost, this command is killed or the key is revoked.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from openvcha.cluster import leader_key, patroni_client
from openvcha.cluster.observing.observation import Observation
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.store.errors import LeaseNotFound, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    CompareTarget,
    Delete,
    KeyValue,
    Put,
    Store,
    absent,
    unchanged,
    value_is,
)
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import parse_sync, paused, read_leader

PROMOTE_SECONDS = 60.0
PATRONI_START_SECONDS = 15.0
"""Includes the start of a Patroni that just got the node's old data back."""
REQUEST_TTL_SECONDS = 20
RENEWAL_SECONDS = 5.0
SETTLE_SECONDS = 3.0
"""Within this time a Patroni that read the request before it was revoked has taken the key."""
POLL_SECONDS = 0.2


class PromotionOutcome(Enum):
    """The result of a promotion."""

    LEADS = auto()
    CHANGED = auto()
    """Nothing was done: the nodes that may lead have changed in the meantime; check again."""
    PATRONI_SILENT = auto()
    """Nothing was done: the node's own Patroni does not respond, or is not in the store."""
    UNCHANGED = auto()
    PROMOTING = auto()
    """The node leads, and its PostgreSQL does not accept writes yet."""
    LOST = auto()
    """The node began to lead, and no longer does."""


@dataclass(frozen=True)
class Grant:
    """The grant: ``revision`` is that of ``/sync``; ``lease`` is the request's, 0 if none."""

    revision: int
    lease: int = 0


async def promote(services: Services, seen: Observation) -> PromotionOutcome:
    """Grant this node the leader key, and wait until it accepts writes. Raises StoreError.

    However the wait ends (even by cancellation), the grant is revoked unless the node's promotion
    has begun.
    """
    member_key = await _wait_for_own_patroni(services)
    if member_key is None:
        return PromotionOutcome.PATRONI_SILENT
    grant = await _grant(services.store, seen, member_key)
    if grant is None:
        return PromotionOutcome.CHANGED
    try:
        done = await _wait(services, grant)
    except BaseException:
        await revoke(services, grant)
        raise
    return PromotionOutcome.LEADS if done else await revoke(services, grant)


async def _wait_for_own_patroni(services: Services) -> KeyValue | None:
    """Wait until the node's Patroni responds and has its member key; None after the limit."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATRONI_START_SECONDS):
            while True:
                found = await leader_key.liveness_key(services.store, services.identity.member)
                if found and await _poll_own_patroni(services):
                    return found
                await asyncio.sleep(POLL_SECONDS)
    return None


async def _poll_own_patroni(services: Services) -> PatroniNode | None:
    try:
        return await services.patroni.node(services.identity.ha_address)
    except patroni_client.PatroniUnreachable:
        return None


async def _grant(store: Store, seen: Observation, member_key: KeyValue) -> Grant | None:
    """Grant the leader key in one transaction; None if the state has changed since ``seen``."""
    leads, sync = await store.get(keys.PATRONI_LEADER), await store.get(keys.PATRONI_SYNC)
    if (read_leader(leads.value) if leads else None) != seen.leader:
        return None
    # A node that has fallen out of sync since may lack more rows than the operator was shown.
    readable = keys.PATRONI_SYNC not in seen.unreadable
    if readable and parse_sync(sync.value if sync else b"") != seen.sync:
        return None
    guards = [
        unchanged(leads) if leads else absent(keys.PATRONI_LEADER),
        unchanged(sync) if sync else absent(keys.PATRONI_SYNC),
    ]
    if await _paused(store) is False:
        revision = await leader_key.write_leader(store, guards, member_key, sync)
        return Grant(revision) if revision is not None else None
    return await _request_leadership(store, guards, member_key, sync)


async def _paused(store: Store) -> bool | None:
    """Return whether Patroni is paused; None if unknown, which is treated as paused."""
    try:
        found = await store.get(keys.PATRONI_CONFIG)
    except RecordUnreadable:
        return None
    return paused(found.value if found else None)


async def _request_leadership(
    store: Store, guards: Sequence[Compare], member_key: KeyValue, sync: KeyValue | None
) -> Grant | None:
    member = member_key.key.removeprefix(keys.PATRONI_MEMBERS)
    lease = await store.lease_grant(REQUEST_TTL_SECONDS)
    actions: list[Action] = [
        Delete(keys.PATRONI_LEADER),
        leader_key.rewrite_sync(sync),
        Put(keys.PATRONI_FAILOVER, json.dumps({"member": member}).encode(), lease),
    ]
    found = await store.txn(guards, actions)
    return Grant(found.revision, lease) if found.succeeded else None


async def _wait(services: Services, grant: Grant) -> bool:
    """Wait until the node accepts writes; False after the time limit, or if the grant is gone."""
    loop = asyncio.get_running_loop()
    until, renew = loop.time() + PROMOTE_SECONDS, loop.time()
    while loop.time() < until:
        try:
            if await _leads(services):
                return True
            if loop.time() >= renew:
                renew = loop.time() + RENEWAL_SECONDS
                if not await _grant_holds(services, grant):
                    return False
        except StoreUnavailable:
            pass  # an election: retry until the time limit
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _leads(services: Services) -> bool:
    if await patroni_client.leader(services.store) != services.identity.member:
        return False
    state = await _poll_own_patroni(services)
    return state is not None and state.primary


async def _grant_holds(services: Services, grant: Grant) -> bool:
    """Renew the request, and return whether the grant is still valid."""
    store, member = services.store, services.identity.member
    if await patroni_client.leader(store) == member:
        return True
    if not grant.lease:
        return False
    try:
        await store.lease_keep_alive(grant.lease)
    except LeaseNotFound:
        return False
    return True


async def revoke(services: Services, grant: Grant) -> PromotionOutcome:
    """Revoke the grant, and return the outcome. Raises StoreError.

    It is revoked only if Patroni has not written ``/sync``. Revoking changes ``/sync``'s revision,
    so a Patroni that read it earlier can no longer write it.
    """
    store, member = services.store, services.identity.member
    sync = await store.get(keys.PATRONI_SYNC)
    same = Compare(keys.PATRONI_SYNC, CompareTarget.MOD, grant.revision)
    if grant.lease:
        with contextlib.suppress(LeaseNotFound):
            await store.lease_revoke(grant.lease)
        await _wait_for_late_takeover(services)
        back = await store.txn([same, absent(keys.PATRONI_LEADER)], [leader_key.rewrite_sync(sync)])
    else:
        held = value_is(keys.PATRONI_LEADER, member.encode())
        actions: list[Action] = [Delete(keys.PATRONI_LEADER), leader_key.rewrite_sync(sync)]
        back = await store.txn([same, held], actions)
    return PromotionOutcome.UNCHANGED if back.succeeded else await _outcome(services, grant)


async def _wait_for_late_takeover(services: Services) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            while await patroni_client.leader(services.store) != services.identity.member:  # noqa: ASYNC110 - it is another program's state
                await asyncio.sleep(POLL_SECONDS)


async def _outcome(services: Services, grant: Grant) -> PromotionOutcome:
    if await _leads(services):
        return PromotionOutcome.LEADS
    if await patroni_client.leader(services.store) == services.identity.member:
        return PromotionOutcome.PROMOTING
    sync = await services.store.get(keys.PATRONI_SYNC)
    untouched = sync is not None and sync.mod_revision == grant.revision
    return PromotionOutcome.UNCHANGED if untouched else PromotionOutcome.LOST
