"""Which values in the store cannot be read: looked for by the active, and set aside by a person."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import AuditInfo, EventInfo
from openvcha.api_server.auth.sessions import SessionRecord
from openvcha.api_server.auth.users import User
from openvcha.cluster.config import ClusterConfig
from openvcha.cluster.patroni_client import parse_sync
from openvcha.events.log import Memory
from openvcha.node.local_records.task_votes import Relied
from openvcha.operations.join_tokens import TokenRecord
from openvcha.store import keys
from openvcha.store.clone_reports import CopyReport
from openvcha.store.errors import RecordForged, RecordInvalid, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    KeyValue,
    Put,
    Store,
    absent,
    unchanged,
)
from openvcha.store.node_facts import NodeFacts
from openvcha.store.patroni_state import wished
from openvcha.store.records import decode, encode
from openvcha.store.sealing.roll import Roll
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.store.structlog_light import structlog
from openvcha.tasks.record import TaskRecord

LOOK_SECONDS: Final = 15.0
KEPT_BYTES: Final = 64 << 10
KEPT_RECORDS: Final = 100

Reader = Callable[[KeyValue], object]
"""Reads a value. Raises RecordUnreadable."""

_log = structlog.get_logger(__name__)


def _as(type_: Any) -> Reader:
    return lambda kv: decode(kv, type_)


def _sync(kv: KeyValue) -> object:
    return parse_sync(kv.value)


def _name(kv: KeyValue) -> object:
    try:
        return kv.value.decode()
    except UnicodeDecodeError as error:
        raise RecordInvalid(kv.key, str(error)) from error


def _wish(kv: KeyValue) -> object:
    found = wished(kv.value)
    if found is None:
        raise RecordInvalid(kv.key, "not what Patroni may be asked for")
    return found


#: How each value is read, by what its key matches; the first that does counts.
READERS: Final[tuple[tuple[str, Reader], ...]] = (
    (keys.CLUSTER, _as(ClusterConfig)),
    (keys.OPERATION, _name),
    (keys.ROOM, _name),
    (keys.ROLL, _as(Roll)),
    (keys.RELIED, _as(Relied)),
    (f"{keys.HEEDED}.+", _name),
    (keys.EVENTS_MEMORY, _as(Memory)),
    (f"{keys.TASKS}.+", _as(TaskRecord)),
    (f"{keys.USERS}.+", _as(User)),
    (f"{keys.JOINS}.+", _as(TokenRecord)),
    (f"{keys.NODES}[^/]+/facts", _as(NodeFacts)),
    (f"{keys.NODES}[^/]+/copy", _as(CopyReport)),
    (f"{keys.SESSIONS}.+", _as(SessionRecord)),
    (f"{keys.EVENTS}.+", _as(EventInfo)),
    (f"{keys.AUDIT}.+", _as(AuditInfo)),
    (f"{keys.AUDIT_LAST}.+", _as(int)),
    (keys.PATRONI_SYNC, _sync),
    (keys.PATRONI_FAILOVER, _wish),
    (keys.PATRONI_FAILSAFE, _as(dict[str, Any])),
    (keys.PATRONI_CONFIG, _as(dict[str, Any])),
    (keys.PATRONI_LEADER, _name),
    (f"{keys.PATRONI_MEMBERS}.+", _as(dict[str, Any])),
)
#: What is looked at again and again: without the sessions, the events and the audit, which are many
#: and hinder nobody but who asks for them.
LOOKED_AT: Final = (
    keys.CLUSTER,
    keys.OPERATION,
    keys.ROOM,
    keys.ROLL,
    keys.RELIED,
    keys.HEEDED,
    keys.EVENTS_MEMORY,
    keys.TASKS,
    keys.USERS,
    keys.JOINS,
    keys.NODES,
    keys.AUDIT_LAST,
    keys.PATRONI,
)
#: Who leads is Patroni's to say; another one is made by a failover.
NEVER: Final = (keys.PATRONI_LEADER, keys.PATRONI_INITIALIZE)


@dataclass(frozen=True)
class Unreadable:
    """A key whose value cannot be read, and why."""

    key: str
    reason: str


def matches(pattern: str, key: str) -> bool:
    """Return whether a reader's pattern is meant for a key."""
    return re.fullmatch(pattern, key) is not None


def why_unreadable(kv: KeyValue) -> str | None:
    """Return why a value cannot be read; None when it can, or when nobody reads it."""
    reader = next((read for key, read in READERS if matches(key, kv.key)), None)
    try:
        if reader is not None:
            reader(kv)
    except RecordUnreadable as error:
        return error.reason
    return None


async def unreadable(store: Store, prefixes: Sequence[str] = LOOKED_AT) -> list[Unreadable]:
    """Find the values that cannot be read. Raises StoreUnavailable."""
    return [found for prefix in prefixes async for found in _below(store, prefix)]


async def forged(store: Store) -> list[Unreadable]:
    """Find the records that no data node has written. Raises StoreUnavailable."""
    if not isinstance(store, SealedStore):
        return []
    await store.guard()
    return [Unreadable(key, RecordForged(key).reason) for key in store.refused()]


async def _below(store: Store, prefix: str) -> AsyncIterator[Unreadable]:
    try:
        found = await store.prefix(prefix)
    except RecordUnreadable as error:
        yield Unreadable(error.key, error.reason)
        return
    for kv in found:
        if (kv.key.startswith(prefix) if prefix.endswith("/") else kv.key == prefix) and (
            reason := why_unreadable(kv)
        ):
            yield Unreadable(kv.key, reason)


class Inspection:
    """Looks for what cannot be read while ``run`` runs; ``note`` takes the keys of it."""

    def __init__(self, store: Store, note: Callable[[tuple[str, ...]], None]) -> None:
        self._store = store
        self._note = note
        self._found: tuple[str, ...] = ()

    async def run(self) -> None:
        """Look until canceled; what is new is logged with its reason."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.info("cannot check the records now", reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once. Raises StoreUnavailable."""
        found = await unreadable(self._store)
        for one in found:
            if one.key not in self._found:
                _log.error("a record cannot be read", key=one.key, reason=one.reason)
        self._found = tuple(one.key for one in found)
        self._note(self._found)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What stood under a key that was set aside; ``value`` is cut at KEPT_BYTES."""

    key: str
    time: datetime
    by: str
    reason: str | None
    size: int
    value: bytes


class NotSetAside(Exception):  # noqa: N818 - reads as what happened
    """Nothing was changed; the text says why."""


async def set_aside(store: Store, key: str, *, by: str, now: datetime, force: bool = False) -> str:
    """Move a value that cannot be read below ``/openvcha/aside/``; return its new key.

    Where it is the task that holds the one operation of the cluster, the operation is free then.
    With ``force`` also one that can be read. Raises NotSetAside, StoreUnavailable.
    """
    _require_ours(key)
    kv, reason = await _found(store, key)
    if kv is None:
        raise NotSetAside(f"there is no record {key}")
    if reason is None and not force:
        raise NotSetAside(f"the record {key} can be read; use --force to set it aside")
    kept = Kept(
        key=key, time=now, by=by, reason=reason, size=len(kv.value), value=kv.value[:KEPT_BYTES]
    )
    place = f"{keys.ASIDE}{now:%Y%m%dT%H%M%S.%fZ}"
    guards, freed = await _operation_of(store, key)
    actions: list[Action] = [Put(place, encode(kept)), Delete(key), *freed]
    actions += await _too_many(store)
    if not (await store.txn([unchanged(kv), absent(place), *guards], actions)).succeeded:
        raise NotSetAside(f"{key} has just changed; check it and try again")
    return place


async def _found(store: Store, key: str) -> tuple[KeyValue | None, str | None]:
    """Read what stands under a key, also when it is forged, and why it cannot be read."""
    try:
        kv = await store.get(key)
    except RecordForged as error:
        return error.raw, error.reason
    return kv, why_unreadable(kv) if kv else None


def _require_ours(key: str) -> None:
    if not key.startswith(keys.ROOT) or key.startswith(keys.ASIDE) or key.endswith("/"):
        raise NotSetAside(f"{key} is not the key of a record below {keys.ROOT}")
    if key in NEVER:
        raise NotSetAside(f"{key} belongs to Patroni; use vcha failover, or vcha node promote")


async def _operation_of(store: Store, key: str) -> tuple[list[Compare], list[Action]]:
    """Free the operation with the task that holds it: nobody else could end that task."""
    operation = await store.get(keys.OPERATION)
    if operation is None or key != keys.task(operation.value.decode(errors="backslashreplace")):
        return [], []
    return [unchanged(operation)], [Delete(operation.key), Delete(keys.RELIED)]


async def _too_many(store: Store) -> list[Action]:
    """Forget the oldest that were set aside, so that they never fill the store."""
    places = sorted(kv.key for kv in await store.prefix(keys.ASIDE, keys_only=True))
    return [Delete(place) for place in places[: max(0, len(places) - KEPT_RECORDS + 1)]]


prepare(__name__)
