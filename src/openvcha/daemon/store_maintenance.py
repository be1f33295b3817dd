"""Maintenance of the store by an operator, recorded in the audit log."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
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
from openvcha.store.space import SpaceReport, measure, reclaim

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


async def free_space(
    store: SealedEtcd, quota: int, say: Callable[[str], None], *, by: str
) -> SpaceReport:
    """Compact and defragment all members; audit it afterwards, once a full store accepts writes.

    Unless the store is full, only one defragmentation runs at a time, and only while all members
    respond. Raises DefragmentRefused, StoreError.
    """
    async with _audited(store, "store.defragment", by, {}):
        found = await measure(store)
        if found.full:
            return await reclaim(store, quota, say, every=True)
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
