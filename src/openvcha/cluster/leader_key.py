"""Changes of the leader: by a request to Patroni, or by a transfer of its leader key.

The new leader may fail before it promotes. So ``/sync``, which names the members that may lead,
keeps its value: Patroni itself enters the new leader right before it promotes PostgreSQL. Here,
``/sync`` is only rewritten with the same value: a Patroni that read it earlier then fails to write.
"""

import json
from collections.abc import Sequence

from openvcha.store import keys
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
from openvcha.store.patroni.state import (
    FailoverRequest,
    Unreadable,
    parse_sync,
    read_failover,
    sound,
)

NO_REQUEST = FailoverRequest()
EMPTY_SYNC = b"{}"
"""A ``/sync`` that means the same as a missing one, but has a revision."""


async def request_switchover(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Request a switchover from ``old`` to ``new``; False when nothing was changed.

    Only a member that ``/sync`` names may be requested. A pending request, from any source, is
    kept; one that Patroni refused is gone, and may be repeated. Wake the leader afterwards, or it
    notices a second later.
    """
    sync = await _sync_from(store, old, new)
    before = await store.get(keys.PATRONI_FAILOVER)
    if sync is None or _request(before) != NO_REQUEST:
        return False
    same = unchanged(before) if before else absent(keys.PATRONI_FAILOVER)
    wish = json.dumps({"leader": old, "member": new}).encode()
    conditions = [guard, _leads(old), unchanged(sync), same]
    return (await store.txn(conditions, [Put(keys.PATRONI_FAILOVER, wish)])).succeeded


async def is_requested(store: Store) -> bool:
    """Return whether a request that Patroni accepts is pending."""
    return _request(await store.get(keys.PATRONI_FAILOVER)) != NO_REQUEST


async def is_pending(store: Store) -> bool:
    """Return whether any request is pending: ours, or one that an administrator made.

    Raises RecordInvalid: an unreadable value may have replaced a request that is in progress.
    """
    found = await store.get(keys.PATRONI_FAILOVER)
    return found is not None and sound(found.key, read_failover(found.value)) != NO_REQUEST


async def withdraw_request(store: Store, guard: Compare, old: str, new: str) -> None:
    """Delete the request of ``request_switchover`` if it is still pending."""
    found = await store.get(keys.PATRONI_FAILOVER)
    if found is not None and _request(found) == FailoverRequest(leader=old, member=new):
        await store.txn([guard, unchanged(found)], [Delete(found.key)])


async def transfer(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Make ``new`` the leader in one transaction; False when nothing was changed.

    Only a member that ``/sync`` names may get the key: it has every acknowledged write, and from
    here on it acknowledges no writes of ``old``. The same transaction rewrites ``/sync``, so that
    ``old`` cannot remove its standby from it and acknowledge alone. The leader key gets the lease
    of the liveness key of ``new``: if that expires before PostgreSQL accepts writes, ``old`` may
    lead again.
    """
    sync = await _sync_from(store, old, new)
    lives = await liveness_key(store, new)
    if sync is None or lives is None:
        return False
    guards = [guard, _leads(old), unchanged(sync)]
    return await write_leader(store, guards, lives, sync) is not None


async def liveness_key(store: Store, member: str) -> KeyValue | None:
    """Return the key by which a member's Patroni shows that it is alive; None when it is not."""
    found = await store.get(keys.patroni_member(member))
    return found if found and found.lease else None


async def write_leader(
    store: Store, guards: Sequence[Compare], lives: KeyValue, sync: KeyValue | None
) -> int | None:
    """Write the leader key for the member of the liveness key ``lives``, with the same lease.

    Returns the revision that ``/sync`` has until Patroni writes it; None when nothing was changed.
    """
    member = lives.key.removeprefix(keys.PATRONI_MEMBERS).encode()
    actions: list[Action] = [
        Put(keys.PATRONI_LEADER, member, lives.lease),
        rewrite_sync(sync),
        Delete(keys.PATRONI_FAILOVER),
    ]
    same = Compare(lives.key, CompareTarget.LEASE, lives.lease)
    found = await store.txn([*guards, same], actions)
    return found.revision if found.succeeded else None


async def undo_transfer(store: Store, guard: Compare, old: str, new: str) -> None:
    """Undo ``transfer``, unless ``new`` has begun to promote."""
    sync = await store.get(keys.PATRONI_SYNC)
    if sync is not None and parse_sync(sync.value).leader == old:
        actions: list[Action] = [Delete(keys.PATRONI_LEADER), rewrite_sync(sync)]
        await store.txn([guard, _leads(new), unchanged(sync)], actions)


async def drop_stale_request(store: Store) -> bool:
    """Delete a request whose member is not alive; return whether it was deleted.

    A paused Patroni does so only on a node that runs a primary.
    """
    found = await store.get(keys.PATRONI_FAILOVER)
    member = _request(found).member
    if found is None or not member:
        return False
    sync = await store.get(keys.PATRONI_SYNC)
    guards = [
        unchanged(found),
        absent(keys.PATRONI_LEADER),
        absent(keys.patroni_member(member)),
        unchanged(sync) if sync else absent(keys.PATRONI_SYNC),
    ]
    return (await store.txn(guards, [Delete(found.key), rewrite_sync(sync)])).succeeded


async def void_unreadable_request(store: Store, member: str) -> bool:
    """Make sure that no node takes over by what an unreadable request replaced; return whether.

    Patroni ignores an unreadable request. One that read an earlier, readable one cannot promote
    once ``/sync`` is rewritten. Only for ``member``, the last primary, while no other member leads.
    """
    found = await store.get(keys.PATRONI_FAILOVER)
    if found is None or not isinstance(read_failover(found.value), Unreadable):
        return False
    leads, sync = await store.get(keys.PATRONI_LEADER), await store.get(keys.PATRONI_SYNC)
    if sync is None or parse_sync(sync.value).leader != member:
        return False
    if leads is not None and leads.value != member.encode():
        return False
    free = unchanged(leads) if leads else absent(keys.PATRONI_LEADER)
    guards = [unchanged(found), unchanged(sync), free]
    return (await store.txn(guards, [rewrite_sync(sync)])).succeeded


def rewrite_sync(sync: KeyValue | None) -> Put:
    """Return the action that rewrites ``/sync`` unchanged, so that earlier readers cannot write."""
    return Put(keys.PATRONI_SYNC, sync.value if sync else EMPTY_SYNC)


async def _sync_from(store: Store, old: str, new: str) -> KeyValue | None:
    """Return ``/sync`` if it allows ``new`` to take over from ``old``."""
    found = await store.get(keys.PATRONI_SYNC)
    state = parse_sync(found.value if found else b"")
    return found if state.leader == old and new in state.standbys else None


def _leads(member: str) -> Compare:
    return value_is(keys.PATRONI_LEADER, member.encode())


def _request(found: KeyValue | None) -> FailoverRequest:
    """Return the pending request; empty when there is none. Patroni empties the key after use.

    A value that Patroni ignores is not a request, and blocks nothing.
    """
    wish = read_failover(found.value) if found else NO_REQUEST
    return NO_REQUEST if isinstance(wish, Unreadable) else wish
