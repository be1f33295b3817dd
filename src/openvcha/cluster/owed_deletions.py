"""Deletions that are owed: VMs of removed nodes that could not be deleted yet.

The task that removes a node records what it could not delete, in a transaction that a superseded
runner cannot commit. The record is in the store, so a failover does not lose it; the active deletes
the VMs once it can (daemon/keepers/deletions.py).
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import keys
from openvcha.store.errors import RecordMissing, RecordUnreadable
from openvcha.store.interface import Compare, Store
from openvcha.store.records import Record

MAX_OWED = 32
"""Each is a node that was lost with its host; more than that are told, but not recorded."""
MAX_REASON = 300


class OwedDeletion(msgspec.Struct, frozen=True, kw_only=True):
    """A VM to delete. ``name`` is for people; ``data``: it has a copy of the protected data."""

    vm: str
    name: str
    member: str
    data: bool
    since: datetime
    reason: str


class OwedDeletions(msgspec.Struct, frozen=True, kw_only=True):
    """All owed deletions, the oldest first."""

    items: tuple[OwedDeletion, ...] = ()


def owed_record(store: Store) -> Record[OwedDeletions]:
    """Return the record of the owed deletions."""
    return Record(store, keys.OWED, OwedDeletions)


async def read_owed(store: Store) -> tuple[OwedDeletion, ...]:
    """Return the owed deletions. Raises RecordUnreadable."""
    found = await owed_record(store).get()
    return found.items if found else ()


async def owe(store: Store, owed: OwedDeletion, guards: Sequence[Compare]) -> bool:
    """Record an owed deletion, or its new reason; return False if too many are recorded already.

    Idempotent. An unreadable record is replaced. Raises Fenced.
    """
    wanted = msgspec.structs.replace(owed, reason=owed.reason[:MAX_REASON])
    changed = await _change(store, lambda old: _with(old, wanted), guards)
    return any(one.vm == owed.vm for one in changed.items)


async def settle(store: Store, vm: str, guards: Sequence[Compare]) -> None:
    """Remove an owed deletion, if it is recorded. Raises Fenced, RecordUnreadable."""
    if any(one.vm == vm for one in await read_owed(store)):
        await _change(store, lambda old: _without(old, vm), guards)


async def _change(
    store: Store, change: Callable[[OwedDeletions], OwedDeletions], guards: Sequence[Compare]
) -> OwedDeletions:
    record = owed_record(store)
    while True:
        try:
            return await record.update(change, guards=guards, idempotent=True)
        except RecordMissing:
            await record.create(OwedDeletions(), guards=guards)
        except RecordUnreadable:
            await record.delete(guards=guards)


def _with(old: OwedDeletions, owed: OwedDeletion) -> OwedDeletions:
    known = next((one for one in old.items if one.vm == owed.vm), None)
    if known is None:
        return OwedDeletions(items=(*old.items, owed)[:MAX_OWED])
    again = msgspec.structs.replace(known, reason=owed.reason)
    return OwedDeletions(items=tuple(again if one is known else one for one in old.items))


def _without(old: OwedDeletions, vm: str) -> OwedDeletions:
    return OwedDeletions(items=tuple(one for one in old.items if one.vm != vm))


prepare(__name__)
