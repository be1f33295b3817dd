"""The stored events: each is written once, together with the state that it was derived from."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import EventFilterSpec, EventInfo
from openvcha.events.ring import MAX_NUMBER, Ring
from openvcha.events.state_diff import ClusterSnapshot, EventDraft
from openvcha.store import keys
from openvcha.store.errors import Compacted
from openvcha.store.interface import (
    Action,
    Compare,
    EventType,
    KeyValue,
    Put,
    Store,
    absent,
    unchanged,
)
from openvcha.store.records import encode, readable

MAX_EVENTS: Final = 5000
"""Some megabytes of the store's gigabyte: weeks of an unstable cluster."""
MAX_AGE: Final = timedelta(days=90)
MAX_AT_ONCE: Final = 60
"""Each takes a put and a delete of a transaction, which is limited to 128 actions."""
EVENT_ID: Final = re.compile(rf"[0-9]{{1,{len(str(2**53))}}}")


class ReportedState(msgspec.Struct, frozen=True, kw_only=True):
    """The state up to which events are written, the tasks' revision, the last number."""

    seen: ClusterSnapshot | None = None
    tasks: Annotated[int, msgspec.Meta(ge=0)] = 0
    last: Annotated[int, msgspec.Meta(ge=0, le=2 * MAX_NUMBER)] = 0


@dataclass(frozen=True)
class ReportedAt:
    """A reported state as it was read; ``kv`` is unset while none is stored."""

    memory: ReportedState
    kv: KeyValue | None

    @property
    def guard(self) -> Compare:
        """Return the condition that no event has been written since."""
        return unchanged(self.kv) if self.kv else absent(keys.EVENTS_MEMORY)


class EventLog:
    """The events of the cluster. Every method may raise StoreUnavailable."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._clock = clock
        self._ring = Ring(store, keys.EVENTS, EventInfo, MAX_EVENTS)

    async def last_reported(self) -> ReportedAt:
        """Read the state up to which events are written. Observe the cluster only *afterwards*."""
        kv = await self._store.get(keys.EVENTS_MEMORY)
        for _, memory in readable([kv] if kv else [], ReportedState):
            return ReportedAt(memory, kv)
        return ReportedAt(await self._begun_anew(), kv)

    async def _begun_anew(self) -> ReportedState:
        """Return the initial state, also if the stored one is unreadable.

        If events exist, it continues their numbers and does not repeat those of tasks.
        """
        last = await self._ring.last()
        if not last:
            return ReportedState()
        return ReportedState(
            last=last, tasks=(await self._store.snapshot(keys.EVENTS_MEMORY)).revision
        )

    async def append(
        self,
        before: ReportedAt,
        after: ReportedState,
        drafts: Sequence[EventDraft],
        *guards: Compare,
    ) -> bool:
        """Write events and the state ``after`` at once; False when another writer was faster.

        After an unknown outcome, continue from ``last_reported()``: that repeats and misses none.
        Raises ValueError for more than MAX_AT_ONCE.
        """
        if len(drafts) > MAX_AT_ONCE:
            raise ValueError(f"{len(drafts)} events are too many for one transaction")
        last, time = before.memory.last, self._clock()
        actions: list[Action] = []
        for number, draft in enumerate(drafts, last + 1):
            actions += self._ring.put(number, _event(number, time, draft))
        memory = msgspec.structs.replace(after, last=last + len(drafts))
        written = Put(keys.EVENTS_MEMORY, encode(memory))
        return (await self._store.txn([before.guard, *guards], [written, *actions])).succeeded

    async def add(self, draft: EventDraft) -> None:
        """Write an event that no observation of the cluster shows."""
        appended = False
        while not appended:
            before = await self.last_reported()
            appended = await self.append(before, before.memory, [draft])

    async def list(self, spec: EventFilterSpec | None = None) -> tuple[EventInfo, ...]:
        """Return events, oldest first. Raises ApiError INVALID_ARGUMENT."""
        wanted = spec or EventFilterSpec()
        limit = checked_limit(wanted.limit, MAX_EVENTS)
        last = (await self.last_reported()).memory.last
        if wanted.after is None:
            return tuple(await self._ring.read(last - limit + 1, last))
        found = await self._ring.read(event_number(wanted.after) + 1, last)
        return tuple(found[:limit])

    async def last_id(self) -> str:
        """Return the id of the newest event; ``0`` when there is none yet."""
        return str((await self.last_reported()).memory.last)

    async def follow(self, after: str) -> AsyncGenerator[tuple[EventInfo, ...], None]:
        """Yield the events after an id, including future ones, until closed.

        Raises ApiError INVALID_ARGUMENT. Close it with ``contextlib.aclosing``.
        """
        number = event_number(after)
        while True:
            seen = await self._store.snapshot(keys.EVENTS_MEMORY)
            last = max(
                (memory.last for _, memory in readable(seen.items, ReportedState)), default=0
            )
            if found := await self._ring.read(number + 1, last):
                yield tuple(found)
            number = max(number, last)
            try:
                changes = self._store.watch(self._ring.prefix, seen.revision + 1)
                async with aclosing(changes):
                    async for batch in changes:
                        events = [each.kv for each in batch if each.type is EventType.PUT]
                        if events:
                            yield tuple(event for _, event in readable(events, EventInfo))
                            number = max(number, self._ring.number(events[-1].key))
            except Compacted:
                continue  # continue from the last number

    async def sweep(self) -> int:
        """Delete events older than MAX_AGE; return how many."""
        return await self._ring.sweep(self._clock() - MAX_AGE)


def event_number(text: str) -> int:
    """Parse the id of an event. Raises ApiError INVALID_ARGUMENT."""
    if not EVENT_ID.fullmatch(text):
        fail(ErrorType.INVALID_ARGUMENT, message("event.id", text))
    return int(text)


def checked_limit(limit: int | None, most: int) -> int:
    """Return the limit, by default ``most``. Raises ApiError INVALID_ARGUMENT."""
    if limit is not None and not 1 <= limit <= most:
        fail(ErrorType.INVALID_ARGUMENT, message("event.limit", most, limit))
    return limit or most


def _event(number: int, time: datetime, draft: EventDraft) -> EventInfo:
    return EventInfo(
        id=str(number),
        time=time,
        severity=draft.severity,
        type=draft.type,
        node=draft.node,
        task=draft.task,
        message=draft.message,
    )


prepare(__name__)
