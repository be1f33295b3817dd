"""Who leads next: Patroni is asked to switch, or its leader key is handed over as it stands."""

import json

from openvcha.cluster.patroni import parse_sync
from openvcha.store import keys
from openvcha.store.protocol import (
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
from openvcha.store.records import decode

Wish = dict[str, str | None]


async def ask(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Ask Patroni to switch from ``old`` to ``new``; False when nothing was changed.

    Only a member that ``/sync`` names may be asked for. A wish that Patroni has before it, whose
    ever it is, stays; one that it refused is gone, and may be asked again. Wake the leader
    afterwards, or it notices a second later.
    """
    sync = await _sync_from(store, old, new)
    before = await store.get(keys.PATRONI_FAILOVER)
    if sync is None or _wish(before):
        return False
    same = unchanged(before) if before else absent(keys.PATRONI_FAILOVER)
    wish = json.dumps({"leader": old, "member": new}).encode()
    conditions = [guard, _leads(old), unchanged(sync), same]
    return (await store.txn(conditions, [Put(keys.PATRONI_FAILOVER, wish)])).succeeded


async def pending(store: Store) -> bool:
    """Tell whether Patroni has a wish before it: ours, or one that a person made known to it."""
    return bool(_wish(await store.get(keys.PATRONI_FAILOVER)))


async def take_back(store: Store, guard: Compare, old: str, new: str) -> None:
    """Take the wish of ``ask`` back, if it is still there."""
    found = await store.get(keys.PATRONI_FAILOVER)
    if found is not None and _wish(found) == {"leader": old, "member": new}:
        await store.txn([guard, unchanged(found)], [Delete(found.key)])


async def hand_over(store: Store, guard: Compare, old: str, new: str) -> bool:
    """Make ``new`` the leader in one transaction; False when nothing was changed.

    Only a member that ``/sync`` names may get the key: it has every acknowledged write, and from
    here on ``old`` gets no acknowledgement from it any more. ``/sync`` is rewritten in the same
    transaction, so that ``old`` cannot let go of its standby and acknowledge alone. The key lives
    with the lease by which Patroni of ``new`` shows that it lives.
    """
    sync = await _sync_from(store, old, new)
    member = await store.get(keys.patroni_member(new))
    if sync is None or member is None or not member.lease:
        return False
    alone = json.dumps({"leader": new, "sync_standby": None, "quorum": 0}).encode()
    lives = Compare(member.key, Target.LEASE, member.lease)
    return (
        await store.txn(
            [guard, _leads(old), unchanged(sync), lives],
            [
                Put(keys.PATRONI_LEADER, new.encode(), member.lease),
                Put(keys.PATRONI_SYNC, alone),
                Delete(keys.PATRONI_FAILOVER),
            ],
        )
    ).succeeded


async def _sync_from(store: Store, old: str, new: str) -> KeyValue | None:
    """Give ``/sync`` as it stands when it allows ``new`` to follow ``old``."""
    found = await store.get(keys.PATRONI_SYNC)
    state = parse_sync(found.value if found else b"")
    return found if state.leader == old and new in state.standbys else None


def _leads(member: str) -> Compare:
    return value_is(keys.PATRONI_LEADER, member.encode())


def _wish(found: KeyValue | None) -> Wish:
    """Read what Patroni is asked for; it empties the key where it does not delete it.

    Raises RecordInvalid.
    """
    return decode(found, Wish) if found and found.value else {}
