"""Who leads next: Patroni is asked to switch, or its leader key is handed over as it stands.

Whoever is given the key may fail. So ``/sync``, which says who else may lead, is left as it is:
Patroni itself puts the new leader there, right before PostgreSQL is told to become a primary. It
is only written anew with the same value: a Patroni that read it before cannot write it any more.
"""

import json
from collections.abc import Sequence

from openvcha.store import keys
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
from openvcha.store.patroni.state import (
    FailoverRequest,
    Unreadable,
    parse_sync,
    read_failover,
    sound,
)

NO_REQUEST = FailoverRequest()
NOBODY = b"{}"
"""A ``/sync`` that says as little as none; unlike none it has a revision."""


async def ask(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Ask Patroni to switch from ``old`` to ``new``; False when nothing was changed.

    Only a member that ``/sync`` names may be asked for. A wish that Patroni has before it, whose
    ever it is, stays; one that it refused is gone, and may be asked again. Wake the leader
    afterwards, or it notices a second later.
    """
    sync = await _sync_from(store, old, new)
    before = await store.get(keys.PATRONI_FAILOVER)
    if sync is None or _wish(before) != NO_REQUEST:
        return False
    same = unchanged(before) if before else absent(keys.PATRONI_FAILOVER)
    wish = json.dumps({"leader": old, "member": new}).encode()
    conditions = [guard, _leads(old), unchanged(sync), same]
    return (await store.txn(conditions, [Put(keys.PATRONI_FAILOVER, wish)])).succeeded


async def asked(store: Store) -> bool:
    """Return whether Patroni has a wish before it, of what it is shown: only then it acts."""
    return _wish(await store.get(keys.PATRONI_FAILOVER)) != NO_REQUEST


async def pending(store: Store) -> bool:
    """Return whether Patroni has a wish before it: ours, or one that a person made known to it.

    Raises RecordInvalid: what cannot be read may have taken the place of one that is being met.
    """
    found = await store.get(keys.PATRONI_FAILOVER)
    return found is not None and sound(found.key, read_failover(found.value)) != NO_REQUEST


async def take_back(store: Store, guard: Compare, old: str, new: str) -> None:
    """Take the wish of ``ask`` back, if it is still there."""
    found = await store.get(keys.PATRONI_FAILOVER)
    if found is not None and _wish(found) == FailoverRequest(leader=old, member=new):
        await store.txn([guard, unchanged(found)], [Delete(found.key)])


async def hand_over(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Make ``new`` the leader in one transaction; False when nothing was changed.

    Only a member that ``/sync`` names may get the key: it has every acknowledged write, and from
    here on ``old`` gets no acknowledgement from it any more. ``/sync`` is written anew in the same
    transaction, so that ``old`` cannot let go of its standby and acknowledge alone. The key lives
    with the lease by which Patroni of ``new`` shows that it lives: where that ends before
    PostgreSQL takes writes, ``old`` may lead again.
    """
    sync = await _sync_from(store, old, new)
    lives = await alive(store, new)
    if sync is None or lives is None:
        return False
    guards = [guard, _leads(old), unchanged(sync)]
    return await give(store, guards, lives, sync) is not None


async def alive(store: Store, member: str) -> KeyValue | None:
    """Return the key by which a member's Patroni shows that it lives; None: it does not."""
    found = await store.get(keys.patroni_member(member))
    return found if found and found.lease else None


async def give(
    store: Store, guards: Sequence[Compare], lives: KeyValue, sync: KeyValue | None
) -> int | None:
    """Write the leader key for the member that ``lives`` is of, for as long as it lives.

    Returns the revision that ``/sync`` has until Patroni writes it; None: nothing was changed.
    """
    member = lives.key.removeprefix(keys.PATRONI_MEMBERS).encode()
    actions: list[Action] = [
        Put(keys.PATRONI_LEADER, member, lives.lease),
        fence(sync),
        Delete(keys.PATRONI_FAILOVER),
    ]
    same = Compare(lives.key, Target.LEASE, lives.lease)
    found = await store.txn([*guards, same], actions)
    return found.revision if found.succeeded else None


async def give_back(store: Store, guard: Compare, old: str, new: str) -> None:
    """Undo ``hand_over``, where ``new`` has not begun to become the primary."""
    sync = await store.get(keys.PATRONI_SYNC)
    if sync is not None and parse_sync(sync.value).leader == old:
        actions: list[Action] = [Delete(keys.PATRONI_LEADER), fence(sync)]
        await store.txn([guard, _leads(new), unchanged(sync)], actions)


async def drop_dead(store: Store) -> bool:
    """Delete a wish whose member shows no life; return whether it did.

    A paused Patroni does so only where a primary runs.
    """
    found = await store.get(keys.PATRONI_FAILOVER)
    member = _wish(found).member
    if found is None or not member:
        return False
    sync = await store.get(keys.PATRONI_SYNC)
    guards = [
        unchanged(found),
        absent(keys.PATRONI_LEADER),
        absent(keys.patroni_member(member)),
        unchanged(sync) if sync else absent(keys.PATRONI_SYNC),
    ]
    return (await store.txn(guards, [Delete(found.key), fence(sync)])).succeeded


def fence(sync: KeyValue | None) -> Put:
    """Write ``/sync`` as it is, so that who read it before cannot write it any more."""
    return Put(keys.PATRONI_SYNC, sync.value if sync else NOBODY)


async def _sync_from(store: Store, old: str, new: str) -> KeyValue | None:
    """Return ``/sync`` as it stands when it allows ``new`` to follow ``old``."""
    found = await store.get(keys.PATRONI_SYNC)
    state = parse_sync(found.value if found else b"")
    return found if state.leader == old and new in state.standbys else None


def _leads(member: str) -> Compare:
    return value_is(keys.PATRONI_LEADER, member.encode())


def _wish(found: KeyValue | None) -> FailoverRequest:
    """Read what Patroni is asked for; it empties the key where it does not delete it.

    What Patroni is not shown is no wish, and in nobody's way.
    """
    wish = read_failover(found.value) if found else NO_REQUEST
    return NO_REQUEST if isinstance(wish, Unreadable) else wish
