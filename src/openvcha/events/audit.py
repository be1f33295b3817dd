"""Who did what: a record of each call that was to change something, kept in the store."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from openvcha.api.messages import message
from openvcha.api.structures import AuditFilterSpec, AuditInfo
from openvcha.events.budget import Budget, LeftOut, source_of
from openvcha.events.log import checked_limit
from openvcha.events.owner_rings import Rows
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.structlog_light import structlog

MOST_CHANGES: Final = 2000
MOST_ACCESS: Final = 500
"""Of one user."""
MOST_OF_STRANGER, MOST_STRANGERS = 50, 100
MOST_LISTED: Final = 10_000
MAX_AGE: Final = timedelta(days=365)
PATIENCE_SECONDS: Final = 1.0
"""A call is not held up for longer when the store is away; the log has its record too."""
STRANGER_A_MINUTE, STRANGERS_A_MINUTE = 10, 60
"""Of one address, and of all together."""
USER_A_MINUTE, USERS_A_MINUTE = 60, 600
"""Refused calls and logins; what a user has changed is kept whatever it is."""
OK: Final = "OK"
MAX_TEXT: Final = 256
MAX_ARGUMENTS: Final = 4096
HIDDEN: Final = "***"

_log = structlog.get_logger(__name__)


class AuditLog:
    """What users changed, who came in, and who was not let in: apart, with a ring for each user.

    Strangers have a ring for each address. So nobody pushes out what is kept of another. Of one
    who only knocks, is refused, or comes in all the time, some records a minute are kept and the
    others counted: the store's work must not be theirs to order.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._changes = Rows(store, "changes", "c", MOST_CHANGES)
        self._access = Rows(store, "access", "a", MOST_ACCESS)
        self._strangers = Rows(store, "strangers", "s", MOST_OF_STRANGER, MOST_STRANGERS)
        self._knocking: Budget[AuditInfo] = Budget(STRANGER_A_MINUTE, STRANGERS_A_MINUTE, monotonic)
        self._busy: Budget[AuditInfo] = Budget(USER_A_MINUTE, USERS_A_MINUTE, monotonic)
        self._telling: asyncio.Task[None] | None = None

    async def record(self, entry: AuditInfo, *, access: bool) -> None:
        """Keep a record (its ``id`` and ``time`` are set here); never raises, and waits shortly.

        Without a user it is a stranger's.
        """
        self._tell_when_due()
        if entry.user is None:
            source = source_of(entry.origin)
            if self._knocking.take(source, entry):
                await self._append(self._strangers, source, entry)
        elif entry.result == OK and not access:
            await self._append(self._changes, entry.user, entry)
        elif self._busy.take(entry.user, entry):
            row = self._access if access else self._changes
            await self._append(row, entry.user, entry)

    async def tell_left_out(self) -> None:
        """Keep how many records were left out in the minutes that are over."""
        for found in self._knocking.left_out():
            await self._append(self._strangers, found.owner, _and_more(found))
        for found in self._busy.left_out():
            await self._append(self._access, found.owner, _and_more(found))

    def _tell_when_due(self) -> None:
        """Record those that were left out beside the call that has noticed it."""
        idle = self._telling is None or self._telling.done()
        if idle and (self._knocking.due or self._busy.due):
            self._telling = asyncio.create_task(self.tell_left_out(), name="audit: and more")

    async def list(self, spec: AuditFilterSpec | None = None) -> tuple[AuditInfo, ...]:
        """List the newest records, the oldest first. Raises ApiError INVALID_ARGUMENT."""
        limit = checked_limit(spec.limit if spec else None, MOST_LISTED)
        rows = (self._changes, self._strangers, self._access)
        found = [record for row in rows for record in await row.newest(limit)]
        return tuple(sorted(found, key=lambda record: record.time)[-limit:])

    async def sweep(self) -> int:
        """Forget what is older than it is kept, and return how many records that were."""
        oldest = self._clock() - MAX_AGE
        rows = (self._changes, self._access, self._strangers)
        return sum([await row.sweep(oldest) for row in rows])

    async def _append(self, row: Rows, owner: str, entry: AuditInfo) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await row.append(owner, msgspec.structs.replace(entry, time=self._clock()))
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "the store did not respond in time"
            _log.warning("audit record not stored", reason=reason, record=entry)


def _and_more(found: LeftOut[AuditInfo]) -> AuditInfo:
    """Make the record of those that were left out; the last of them stands for all."""
    more = message("audit.more", found.count, found.owner)
    return msgspec.structs.replace(found.last, arguments=None, task=None, reason=more)


def shown(arguments: Mapping[str, Any]) -> str:
    """Write a call's arguments as JSON, without secrets, and with long texts cut."""
    plain = msgspec.to_builtins(dict(arguments), enc_hook=_hide)
    text = msgspec.json.encode({name: _short(value) for name, value in plain.items()})
    if len(text) > MAX_ARGUMENTS:
        text = msgspec.json.encode(dict.fromkeys(plain, "…"))
    return text.decode()


def _hide(_: object) -> str:
    """Stand for a secret, and for all that JSON has no form for: no call may fail by it."""
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
