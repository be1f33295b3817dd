"""Letting this node lead, so that nothing is left behind where it does not.

Patroni of this node gets the leader key, for as long as it lives. Under a pause it would give the
key away at once: it is asked to take it, and that wish ends with a lease of this command. Nothing
else is changed: ``/sync`` and ``/status`` stay until Patroni itself writes them, right before
PostgreSQL is told to become a primary. So whoever may lead by them still may when this node is
lost, this command is killed, or the key is taken back.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from openvcha.cluster import leader_key, patroni_client
from openvcha.cluster.observation import Observation
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.store.errors import LeaseNotFound, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    KeyValue,
    Put,
    Store,
    Target,
    absent,
    unchanged,
    value_is,
)
from openvcha.store.patroni_state import pause

PROMOTE_SECONDS = 60.0
ALIVE_SECONDS = 15.0
"""Also for a Patroni that starts on data that were set aside and are back."""
WISH_SECONDS = 20
RENEW_SECONDS = 5.0
LATE_SECONDS = 3.0
"""In which a Patroni that read the wish before it was taken back has shown itself."""
POLL_SECONDS = 0.2


class Outcome(Enum):
    """What has come of it."""

    LEADS = auto()
    CHANGED = auto()
    """Somebody else has changed who may lead before anything was done: look again."""
    SILENT = auto()
    """Nothing was done: the node's own Patroni does not answer, or is not in the store."""
    AS_BEFORE = auto()
    BEGUN = auto()
    """The node leads, and its PostgreSQL does not take writes yet."""
    LOST = auto()
    """The node began to lead, and does not any more."""


@dataclass(frozen=True)
class Grant:
    """What was changed: ``/sync`` has ``revision``; ``lease`` is the wish's, 0 where none is."""

    revision: int
    lease: int = 0


async def promote(services: Services, seen: Observation) -> Outcome:
    """Grant this node the right to lead, and wait until it takes writes. Raises StoreError.

    Whatever ends the wait (also a cancellation), what was given is taken back where the node has
    not begun to become the primary.
    """
    lives = await _own_life(services)
    if lives is None:
        return Outcome.SILENT
    grant = await _grant(services.store, seen, lives)
    if grant is None:
        return Outcome.CHANGED
    try:
        done = await _wait(services, grant)
    except BaseException:
        await take_back(services, grant)
        raise
    return Outcome.LEADS if done else await take_back(services, grant)


async def _own_life(services: Services) -> KeyValue | None:
    """Wait until the own Patroni answers and shows in the store that it lives; None: never."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALIVE_SECONDS):
            while True:
                found = await leader_key.alive(services.store, services.identity.member)
                if found and await _answer(services):
                    return found
                await asyncio.sleep(POLL_SECONDS)
    return None


async def _answer(services: Services) -> patroni_client.PatroniNode | None:
    try:
        return await services.patroni.node(services.identity.ha_address)
    except patroni_client.PatroniUnreachable:
        return None


async def _grant(store: Store, seen: Observation, lives: KeyValue) -> Grant | None:
    """Grant the right to lead in one transaction; None: it is not as it was seen any more."""
    leads, sync = await store.get(keys.PATRONI_LEADER), await store.get(keys.PATRONI_SYNC)
    if (patroni_client.name_of(leads.value) if leads else None) != seen.leader:
        return None
    # Who was in sync then, and is not now, may lack more than the person was told.
    told = keys.PATRONI_SYNC not in seen.unreadable
    if told and patroni_client.parse_sync(sync.value if sync else b"") != seen.sync:
        return None
    guards = [
        unchanged(leads) if leads else absent(keys.PATRONI_LEADER),
        unchanged(sync) if sync else absent(keys.PATRONI_SYNC),
    ]
    if await _paused(store) is False:
        revision = await leader_key.give(store, guards, lives, sync)
        return Grant(revision) if revision is not None else None
    return await _ask(store, guards, lives, sync)


async def _paused(store: Store) -> bool | None:
    """Return whether Patroni is paused; None: unknown, and then it is asked as if it were."""
    try:
        found = await store.get(keys.PATRONI_CONFIG)
    except RecordUnreadable:
        return None
    return pause(found.value if found else None)


async def _ask(
    store: Store, guards: Sequence[Compare], lives: KeyValue, sync: KeyValue | None
) -> Grant | None:
    member = lives.key.removeprefix(keys.PATRONI_MEMBERS)
    lease = await store.lease_grant(WISH_SECONDS)
    actions: list[Action] = [
        Delete(keys.PATRONI_LEADER),
        leader_key.fence(sync),
        Put(keys.PATRONI_FAILOVER, json.dumps({"member": member}).encode(), lease),
    ]
    found = await store.txn(guards, actions)
    return Grant(found.revision, lease) if found.succeeded else None


async def _wait(services: Services, grant: Grant) -> bool:
    """Wait until the node takes writes; False: its time is over, or what was given is gone."""
    loop = asyncio.get_running_loop()
    until, renew = loop.time() + PROMOTE_SECONDS, loop.time()
    while loop.time() < until:
        try:
            if await _leads(services):
                return True
            if loop.time() >= renew:
                renew = loop.time() + RENEW_SECONDS
                if not await _stands(services, grant):
                    return False
        except StoreUnavailable:
            pass  # an election: it is looked at again until the time is over
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _leads(services: Services) -> bool:
    if await patroni_client.leader(services.store) != services.identity.member:
        return False
    state = await _answer(services)
    return state is not None and state.primary


async def _stands(services: Services, grant: Grant) -> bool:
    """Renew the wish, and tell whether what was given is there still."""
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


async def take_back(services: Services, grant: Grant) -> Outcome:
    """Revoke what was granted, and return how it stands then. Raises StoreError.

    Only while Patroni has not written ``/sync``: by then it has read it anew, and a Patroni that
    read it before this cannot write it any more.
    """
    store, member = services.store, services.identity.member
    sync = await store.get(keys.PATRONI_SYNC)
    same = Compare(keys.PATRONI_SYNC, Target.MOD, grant.revision)
    if grant.lease:
        with contextlib.suppress(LeaseNotFound):
            await store.lease_revoke(grant.lease)
        await _late(services)
        back = await store.txn([same, absent(keys.PATRONI_LEADER)], [leader_key.fence(sync)])
    else:
        held = value_is(keys.PATRONI_LEADER, member.encode())
        actions: list[Action] = [Delete(keys.PATRONI_LEADER), leader_key.fence(sync)]
        back = await store.txn([same, held], actions)
    return Outcome.AS_BEFORE if back.succeeded else await _outcome(services, grant)


async def _late(services: Services) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LATE_SECONDS):
            while await patroni_client.leader(services.store) != services.identity.member:  # noqa: ASYNC110 - it is another program's state
                await asyncio.sleep(POLL_SECONDS)


async def _outcome(services: Services, grant: Grant) -> Outcome:
    if await _leads(services):
        return Outcome.LEADS
    if await patroni_client.leader(services.store) == services.identity.member:
        return Outcome.BEGUN
    sync = await services.store.get(keys.PATRONI_SYNC)
    untouched = sync is not None and sync.mod_revision == grant.revision
    return Outcome.AS_BEFORE if untouched else Outcome.LOST
