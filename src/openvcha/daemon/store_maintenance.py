"""Maintenance of the store by an operator, recorded in the audit log."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api_server.auditing import local_entry
from openvcha.daemon import unreadable_records
from openvcha.daemon.unreadable_records import SetAsideRefused, Unreadable
from openvcha.events.audit import AuditLog
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.space import SpaceReport, reclaim

EVERYTHING = (keys.ROOT,)
"""Includes the sessions, the events and the audit."""


class AcceptRefused(Exception):  # noqa: N818 - named after the outcome
    """Nothing was changed; the text gives the reason."""


async def find_unreadable(store: Store) -> list[Unreadable]:
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
    """Compact and defragment all members; audit it afterwards, once a full store accepts writes."""
    after = await reclaim(store, quota, say, every=True)
    await _record(store, "store.defragment", by, {}, None)
    return after


@asynccontextmanager
async def _audited(
    store: Store, operation: str, by: str, arguments: Mapping[str, Any]
) -> AsyncIterator[None]:
    error = None
    try:
        yield
    except (SetAsideRefused, AcceptRefused) as refused:
        error = ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("store.refused", refused))
        raise
    finally:
        await _record(store, operation, by, arguments, error)


async def _record(
    store: Store, operation: str, by: str, arguments: Mapping[str, Any], error: ApiError | None
) -> None:
    entry = local_entry(operation=operation, user=by, arguments=arguments, error=error)
    await AuditLog(store).record(entry, access=False)
