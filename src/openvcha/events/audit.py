"""The audit log: a record of each call that is meant to change something, kept in the store."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from openvcha.api.messages import message
from openvcha.api.structures import AuditFilterSpec, AuditInfo
from openvcha.events.budget import Omitted, RateLimit
from openvcha.events.log import checked_limit
from openvcha.events.owner_rings import Limits, OwnerRings
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.system.network.sources import site_of, source_of
from openvcha.system.structlog_light import structlog

MAX_CHANGES: Final = 2000
MAX_ACCESS: Final = 500
MAX_REFUSED: Final = 2000
"""Per user."""
MAX_OF_STRANGER, MAX_STRANGERS = 50, 100
MAX_LISTED: Final = 10_000
MAX_AGE: Final = timedelta(days=365)
PATIENCE_SECONDS: Final = 1.0
"""Maximum delay of a call while the store is unavailable; the log has the record, too."""
STRANGER_A_MINUTE, STRANGERS_A_MINUTE = 10, 60
"""Per address, and in total."""
USER_A_MINUTE, USERS_A_MINUTE = 60, 600
"""Refused calls and logins; successful changes are always stored."""
OK: Final = "OK"
MAX_TEXT: Final = 256
MAX_ARGUMENTS: Final = 4096
HIDDEN: Final = "***"

_log = structlog.get_logger(__name__)


class AuditLog:
    """Changes, accesses and refusals: separate, with one ring of records per user.

    A change never waits until refused calls are stored.
    Unauthenticated callers have a ring per address, so no caller displaces another's records. Of
    failed logins, refusals and frequent logins, it stores some records per minute and counts the
    others: a caller must not control the load on the store. ``workers`` processes share these.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        *,
        workers: int = 1,
    ) -> None:
        self._clock = clock
        self._changes = OwnerRings(store, "changes", "c", Limits(MAX_CHANGES))
        self._refused = OwnerRings(store, "refused", "r", Limits(MAX_REFUSED))
        self._access = OwnerRings(store, "access", "a", Limits(MAX_ACCESS))
        self._strangers = OwnerRings(
            store, "strangers", "s", Limits(MAX_OF_STRANGER, MAX_STRANGERS, site_of)
        )
        self._anonymous: RateLimit[AuditInfo] = RateLimit(
            STRANGER_A_MINUTE, -(-STRANGERS_A_MINUTE // workers), monotonic
        )
        self._users: RateLimit[AuditInfo] = RateLimit(
            USER_A_MINUTE, -(-USERS_A_MINUTE // workers), monotonic
        )
        self._telling: asyncio.Task[None] | None = None

    async def record(self, entry: AuditInfo, *, access: bool) -> None:
        """Store a record (``id`` and ``time`` are set here); never raise, and wait only briefly.

        A record without a user belongs to its address.
        """
        self._tell_when_due()
        if entry.user is None:
            source = source_of(entry.origin)
            if self._anonymous.take(source, entry):
                await self._append(self._strangers, source, entry)
        elif entry.result == OK and not access:
            await self._append(self._changes, entry.user, entry)
        elif self._users.take(entry.user, entry):
            row = self._access if access else self._refused
            await self._append(row, entry.user, entry)

    async def record_omitted(self) -> None:
        """Store how many records were omitted in the past minutes."""
        for found in self._anonymous.omitted():
            await self._append(self._strangers, found.owner, _omitted_record(found))
        for found in self._users.omitted():
            await self._append(self._access, found.owner, _omitted_record(found))

    def _tell_when_due(self) -> None:
        """Start to store the counts of omitted records in the background, if they are due."""
        idle = self._telling is None or self._telling.done()
        if idle and (self._anonymous.due or self._users.due):
            self._telling = asyncio.create_task(self.record_omitted(), name="audit: and more")

    async def list(self, spec: AuditFilterSpec | None = None) -> tuple[AuditInfo, ...]:
        """Return the newest records, oldest first. Raises ApiError INVALID_ARGUMENT."""
        limit = checked_limit(spec.limit if spec else None, MAX_LISTED)
        rows = (self._changes, self._refused, self._strangers, self._access)
        found = [record for row in rows for record in await row.newest(limit)]
        return tuple(sorted(found, key=lambda record: record.time)[-limit:])

    async def sweep(self) -> int:
        """Delete records older than MAX_AGE; return how many."""
        oldest = self._clock() - MAX_AGE
        rows = (self._changes, self._refused, self._access, self._strangers)
        return sum([await row.sweep(oldest) for row in rows])

    async def _append(self, row: OwnerRings, owner: str, entry: AuditInfo) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await row.append(owner, msgspec.structs.replace(entry, time=self._clock()))
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "the store did not respond in time"
            _log.warning("audit record not stored", reason=reason, record=entry)


def _omitted_record(found: Omitted[AuditInfo]) -> AuditInfo:
    """Return the record that stands for the omitted ones, made from the last of them."""
    more = message("audit.more", found.count, found.owner)
    return msgspec.structs.replace(found.last, arguments=None, task=None, reason=more)


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """Encode a call's arguments as JSON, without secrets, with long texts truncated."""
    plain = msgspec.to_builtins(dict(arguments), enc_hook=_hide)
    text = msgspec.json.encode({name: _short(value) for name, value in plain.items()})
    if len(text) > MAX_ARGUMENTS:
        text = msgspec.json.encode(dict.fromkeys(plain, "…"))
    return text.decode()


def _hide(_: object) -> str:
    """Replace a secret, or a value that JSON cannot express: no call may fail because of it."""
    return HIDDEN


def _short(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_TEXT:
            return value[:MAX_TEXT] + "…"
        case dict():
            return {name: _short(inner) for name, inner in value.items() if inner is not None}
        case list() | tuple():
            return [_short(inner) for inner in value]
    return value
