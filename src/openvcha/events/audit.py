"""Who did what: a record of each call that was to change something, kept in the store."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from openvcha.api.structures import AuditFilterSpec, AuditInfo
from openvcha.events.log import checked_limit
from openvcha.events.ring import Ring
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.protocol import KeyValue, Put, Store, absent, unchanged
from openvcha.store.records import decode

MAX_RECORDS: Final = 5000
MAX_AGE: Final = timedelta(days=365)
PATIENCE_SECONDS: Final = 1.0
"""A call is not held up for longer when the store is away; the log has its record too."""
STRANGERS_A_MINUTE: Final = 10
MAX_TEXT: Final = 256
MAX_ARGUMENTS: Final = 4096
HIDDEN: Final = "***"

_log = structlog.get_logger(__name__)


class AuditLog:
    """Two rings: what users changed, and who came in or was not let in.

    So nobody who only knocks, or logs in every minute, can push out what was changed. Of those
    who are not let in only some a minute are kept: the store's work must not be theirs to order.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._changes = _Counted(store, "c", "changes")
        self._access = _Counted(store, "a", "access")
        self._strangers = _Budget(STRANGERS_A_MINUTE, monotonic)

    async def record(self, entry: AuditInfo, *, access: bool) -> None:
        """Keep a record (its ``id`` and ``time`` are set here); never raises, and waits shortly."""
        if entry.user is None and not self._strangers.take():
            return
        row = self._access if access else self._changes
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await row.append(msgspec.structs.replace(entry, time=self._clock()))
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "the store did not answer in time"
            _log.warning("audit record not kept", reason=reason, record=entry)

    async def list(self, spec: AuditFilterSpec | None = None) -> tuple[AuditInfo, ...]:
        """List the newest records, the oldest first. Raises ApiError INVALID_ARGUMENT."""
        limit = checked_limit(spec.limit if spec else None, 2 * MAX_RECORDS)
        found = [*await self._changes.newest(limit), *await self._access.newest(limit)]
        return tuple(sorted(found, key=lambda record: record.time)[-limit:])

    async def sweep(self) -> int:
        """Forget what is older than it is kept; gives how many records that were."""
        oldest = self._clock() - MAX_AGE
        return await self._changes.ring.sweep(oldest) + await self._access.ring.sweep(oldest)


class _Counted:
    """A ring together with the number of its last record."""

    def __init__(self, store: Store, letter: str, name: str) -> None:
        self.ring = Ring(store, f"{keys.AUDIT}{name}/", AuditInfo, MAX_RECORDS)
        self._store = store
        self._letter = letter
        self._last = keys.AUDIT_LAST + name
        self._one_by_one = asyncio.Lock()

    async def append(self, record: AuditInfo) -> None:
        """Write a record as the next one, whoever else writes at the same time."""
        async with self._one_by_one:
            while not await self._try_append(record):
                pass

    async def newest(self, count: int) -> list[AuditInfo]:
        """Read the newest records, the oldest first."""
        _, last = await self._counted()
        return await self.ring.read(last - count + 1, last)

    async def _counted(self) -> tuple[KeyValue | None, int]:
        """Read the number of the last record. Raises RecordInvalid."""
        kv = await self._store.get(self._last)
        return kv, decode(kv, int) if kv else await self.ring.last()

    async def _try_append(self, record: AuditInfo) -> bool:
        kv, last = await self._counted()
        number = last + 1
        numbered = msgspec.structs.replace(record, id=f"{self._letter}{number}")
        count = Put(self._last, str(number).encode())
        guard = unchanged(kv) if kv else absent(self._last)
        return (await self._store.txn([guard], [count, *self.ring.put(number, numbered)])).succeeded


class _Budget:
    """So many a minute, and no more."""

    def __init__(self, a_minute: int, monotonic: Callable[[], float]) -> None:
        self._a_minute = a_minute
        self._monotonic = monotonic
        self._minute = -1
        self._left = 0

    def take(self) -> bool:
        """Tell whether one more is permitted."""
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            self._minute, self._left = minute, self._a_minute
        self._left -= 1
        return self._left >= 0


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
