"""Maintenance of the store by an operator, recorded in the audit log."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api_server.auditing import local_entry
from openvcha.daemon import unreadable_records
from openvcha.daemon.unreadable_records import SetAsideRefused, UnreadableRecord
from openvcha.events.audit import AuditLog
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.lease import acquire
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.space import SpaceReport, in_charge, measure, reclaim
from openvcha.system.files.locks import try_lock

EVERYTHING = (keys.ROOT,)
"""Includes the sessions, the events and the audit."""


LOCK_SECONDS = 15


class AcceptRefused(Exception):  # noqa: N818 - named after the outcome
    """Nothing was changed; the text gives the reason."""


class DefragmentRefused(Exception):  # noqa: N818 - named after the outcome
    """No further member was defragmented; the text gives the reason."""


async def find_unreadable(store: Store) -> list[UnreadableRecord]:
    """Return all records that are unreadable or have an invalid seal."""
    return [
        *await unreadable_records.find_unreadable(store, EVERYTHING),
        *await unreadable_records.find_forged(store),
    ]


async def set_aside(store: Store, key: str, *, by: str, now: datetime, force: bool = False) -> str:
    """Set a record aside; return its new key. Raises SetAsideRefused, StoreUnavailable."""
    async with _audited(store, "store.set-aside", by, {"key": key, "force": force}):
        return await unreadable_records.set_aside(store, key, by=by, now=now, force=force)


async def accept(store: SealedEtcd, *, by: str) -> None:
    """Accept users and join tokens as they are in the store. Raises AcceptRefused."""
    async with _audited(store, "store.accept", by, {}):
        if not await store.accept():
            raise AcceptRefused("users have just been changed; check them and try again")


@dataclass(frozen=True, slots=True)
class Node:
    """The node on which the command runs; ``lock`` excludes its own keeper of the store's space."""

    member: str
    lock: Path
    quota: int


async def free_space(
    store: SealedEtcd, node: Node, say: Callable[[str], None], *, by: str
) -> SpaceReport:
    """Compact and defragment all members; audit it afterwards, once a full store accepts writes.

    Only one defragmentation runs at a time, and unless the store is full, only while all members
    respond. Raises DefragmentRefused, StoreError.
    """
    quota = node.quota
    async with _audited(store, "store.defragment", by, {}):
        found = await measure(store)
        if found.full:
            return await _free_full_store(store, node, say)
        _require_all_members(found)
        hold = await acquire(store, keys.DEFRAGMENTATION, by.encode(), LOCK_SECONDS)
        if hold is None:
            raise DefragmentRefused("another defragmentation is running; try again later")
        async with hold:

            async def before_each() -> None:
                if hold.lost.is_set():
                    raise DefragmentRefused("the lock was lost: another node may defragment now")
                _require_all_members(await measure(store))

            return await reclaim(store, quota, say, every=True, before_each=before_each)


async def _free_full_store(
    store: SealedEtcd, node: Node, say: Callable[[str], None]
) -> SpaceReport:
    """Free space in a full store, which grants no lock: on one node, in one program."""

    async def before_each() -> None:
        charged = await in_charge(store, await measure(store))
        if charged not in {node.member, None}:
            raise DefragmentRefused(f"the store is full: run this on {charged}, which frees space")

    await before_each()
    descriptor = try_lock(node.lock)
    if descriptor is None:
        raise DefragmentRefused("this node is just freeing space in the store; try again later")
    try:
        return await reclaim(store, node.quota, say, every=True, before_each=before_each)
    finally:
        os.close(descriptor)


def _require_all_members(found: SpaceReport) -> None:
    """Raise DefragmentRefused if the quorum would depend on the member that is unavailable."""
    if reason := found.why_not():
        raise DefragmentRefused(f"no member may be unavailable now: {reason}")


@asynccontextmanager
async def _audited(
    store: Store, operation: str, by: str, arguments: Mapping[str, Any]
) -> AsyncIterator[None]:
    error = None
    try:
        yield
    except (SetAsideRefused, AcceptRefused, DefragmentRefused) as refused:
        error = ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("store.refused", refused))
        raise
    finally:
        await _record(store, operation, by, arguments, error)


async def _record(
    store: Store, operation: str, by: str, arguments: Mapping[str, Any], error: ApiError | None
) -> None:
    entry = local_entry(operation=operation, user=by, arguments=arguments, error=error)
    await AuditLog(store).record(entry, access=False)
