"""Unreadable records in the store, which the active looks for and an operator sets aside."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import AuditInfo, EventInfo
from openvcha.api_server.auth.sessions import SessionRecord
from openvcha.api_server.auth.users import User
from openvcha.cluster.config import ClusterConfig
from openvcha.cluster.owed_deletions import OwedDeletions
from openvcha.events.log import ReportedState
from openvcha.infrastructure.records import SeenInventory
from openvcha.infrastructure.state import State
from openvcha.node.local_records.required_votes import RequiredVotes
from openvcha.operations.join_tokens import TokenRecord
from openvcha.store import keys
from openvcha.store.address_reports import AddressState
from openvcha.store.base_backup_reports import BaseBackupReport
from openvcha.store.errors import RecordForged, RecordInvalid, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    Store,
    absent,
    unchanged,
)
from openvcha.store.node_facts import NodeFacts
from openvcha.store.patroni.state import (
    read_config,
    read_failover,
    read_failsafe,
    read_member,
    read_sync,
    sound,
)
from openvcha.store.records import decode, encode
from openvcha.store.sealing.roll import Roll, judges_below
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog
from openvcha.tasks.record import TaskRecord

POLL_SECONDS: Final = 15.0
MAX_KEPT_BYTES: Final = 64 << 10
MAX_KEPT_RECORDS: Final = 100

Reader = Callable[[KeyValue], object]
"""Reads a value. Raises RecordUnreadable."""

_log = structlog.get_logger(__name__)


def _decoded_as(type_: Any) -> Reader:
    return lambda kv: decode(kv, type_)


def _patroni(read: Callable[[bytes], object]) -> Reader:
    return lambda kv: sound(kv.key, read(kv.value))


def _name(kv: KeyValue) -> object:
    try:
        return kv.value.decode()
    except UnicodeDecodeError as error:
        raise RecordInvalid(kv.key, str(error)) from error


#: The reader for each pattern of keys; the first match applies.
READERS: Final[tuple[tuple[str, Reader], ...]] = (
    (keys.CLUSTER, _decoded_as(ClusterConfig)),
    (keys.OPERATION, _name),
    (keys.DEFRAGMENTATION, _name),
    (keys.ROLL, _decoded_as(Roll)),
    (keys.REQUIRED_VOTES, _decoded_as(RequiredVotes)),
    (f"{keys.REQUIRED_VOTES_CONFIRMED}.+", _name),
    (keys.INVENTORY, _decoded_as(State)),
    (keys.SEEN_INVENTORY, _decoded_as(SeenInventory)),
    (keys.OWED, _decoded_as(OwedDeletions)),
    (keys.EVENTS_MEMORY, _decoded_as(ReportedState)),
    (f"{keys.TASKS}.+", _decoded_as(TaskRecord)),
    (f"{keys.USERS}.+", _decoded_as(User)),
    (f"{keys.JOINS}.+", _decoded_as(TokenRecord)),
    (f"{keys.NODES}[^/]+/facts", _decoded_as(NodeFacts)),
    (f"{keys.NODES}[^/]+/copy", _decoded_as(BaseBackupReport)),
    (f"{keys.NODES}[^/]+/address", _decoded_as(AddressState)),
    (f"{keys.SESSIONS}.+", _decoded_as(SessionRecord)),
    (f"{keys.EVENTS}.+", _decoded_as(EventInfo)),
    (f"{keys.AUDIT}.+", _decoded_as(AuditInfo)),
    (f"{keys.AUDIT_LAST}.+", _decoded_as(int)),
    (keys.PATRONI_SYNC, _patroni(read_sync)),
    (keys.PATRONI_FAILOVER, _patroni(read_failover)),
    (keys.PATRONI_FAILSAFE, _patroni(read_failsafe)),
    (keys.PATRONI_CONFIG, _patroni(read_config)),
    (keys.PATRONI_LEADER, _name),
    (f"{keys.PATRONI_MEMBERS}.+", _patroni(read_member)),
)
#: Scanned periodically: not the sessions, events and audit entries, which are many and affect only
#: the calls that read them.
SCANNED_PREFIXES: Final = (
    keys.CLUSTER,
    keys.OPERATION,
    keys.DEFRAGMENTATION,
    keys.ROLL,
    keys.REQUIRED_VOTES,
    keys.REQUIRED_VOTES_CONFIRMED,
    keys.INVENTORY,
    keys.SEEN_INVENTORY,
    keys.OWED,
    keys.EVENTS_MEMORY,
    keys.TASKS,
    keys.USERS,
    keys.JOINS,
    keys.NODES,
    keys.AUDIT_LAST,
    keys.PATRONI,
)
#: Never set aside: Patroni decides who leads; a failover changes that.
PROTECTED_KEYS: Final = (keys.PATRONI_LEADER, keys.PATRONI_INITIALIZE)


@dataclass(frozen=True)
class UnreadableRecord:
    """A key whose value cannot be read, and why."""

    key: str
    reason: str


def matches(pattern: str, key: str) -> bool:
    """Return whether a reader's pattern matches a whole key."""
    return re.fullmatch(pattern, key) is not None


def why_unreadable(kv: KeyValue) -> str | None:
    """Return why a value is unreadable; None if it is readable, or has no reader."""
    reader = next((read for key, read in READERS if matches(key, kv.key)), None)
    try:
        if reader is not None:
            reader(kv)
    except RecordUnreadable as error:
        return error.reason
    return None


async def find_unreadable(
    store: Store, prefixes: Sequence[str] = SCANNED_PREFIXES
) -> list[UnreadableRecord]:
    """Return the unreadable values below ``prefixes``. Raises StoreUnavailable."""
    together = await _read_together(store, [one for one in prefixes if not judges_below(one)])
    return [found for prefix in prefixes async for found in _below(store, prefix, together)]


async def find_forged(store: Store) -> list[UnreadableRecord]:
    """Return the records that no data node wrote. Raises StoreUnavailable."""
    if not isinstance(store, SealedStore):
        return []
    await store.verify_all()
    return [UnreadableRecord(key, RecordForged(key).reason) for key in store.refused()]


async def _read_together(store: Store, names: Sequence[str]) -> Mapping[str, Sequence[KeyValue]]:
    """Read keys, and all keys below those ending in ``/``, in one request; empty if that fails.

    Not for records that the roll covers: they are verified only when read alone.
    """
    try:
        found = await store.txn([], [Get(name, prefix=name.endswith("/")) for name in names])
    except RecordUnreadable:
        return {}
    return dict(zip(names, found.results, strict=True))


async def _below(
    store: Store, prefix: str, known: Mapping[str, Sequence[KeyValue]]
) -> AsyncIterator[UnreadableRecord]:
    try:
        found = known[prefix] if prefix in known else await store.prefix(prefix)
    except RecordUnreadable as error:
        yield UnreadableRecord(error.key, error.reason)
        return
    for kv in found:
        if (kv.key.startswith(prefix) if prefix.endswith("/") else kv.key == prefix) and (
            reason := why_unreadable(kv)
        ):
            yield UnreadableRecord(kv.key, reason)


class RecordInspection:
    """A search for unreadable records while ``run`` runs; ``note`` takes their keys."""

    def __init__(self, store: Store, note: Callable[[tuple[str, ...]], None]) -> None:
        self._store = store
        self._note = note
        self._found: tuple[str, ...] = ()

    async def run(self) -> None:
        """Scan until canceled; log new ones with their reasons."""

        def failed(reason: str) -> None:
            _log.info("cannot check the records now", reason=reason)

        await repeat(self.scan, POLL_SECONDS, transient=(StoreUnavailable,), failed=failed)

    async def scan(self) -> None:
        """Scan once. Raises StoreUnavailable."""
        found = await find_unreadable(self._store)
        for one in found:
            if one.key not in self._found:
                _log.error("a record cannot be read", key=one.key, reason=one.reason)
        self._found = tuple(one.key for one in found)
        self._note(self._found)


class SetAsideRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a key that was set aside; ``value`` is truncated to MAX_KEPT_BYTES."""

    key: str
    time: datetime
    by: str
    reason: str | None
    size: int
    value: bytes


class SetAsideRefused(Exception):  # noqa: N818 - named after the outcome
    """Nothing was changed; the text gives the reason."""


async def set_aside(store: Store, key: str, *, by: str, now: datetime, force: bool = False) -> str:
    """Move an unreadable value below ``/openvcha/aside/``; return its new key.

    If it is the task that holds the cluster's operation lock, release the lock. With ``force`` also
    move a readable value, unless it is a task that has not ended. Raises SetAsideRefused,
    StoreUnavailable.
    """
    _require_ours(key)
    kv, reason = await _found(store, key)
    if kv is None:
        raise SetAsideRefused(f"there is no record {key}")
    if reason is None and not force:
        raise SetAsideRefused(f"the record {key} can be read; use --force to set it aside")
    if reason is None:
        _require_ended(kv)
    kept = SetAsideRecord(
        key=key, time=now, by=by, reason=reason, size=len(kv.value), value=kv.value[:MAX_KEPT_BYTES]
    )
    place = f"{keys.ASIDE}{now:%Y%m%dT%H%M%S.%fZ}"
    guards, freed = await _operation_of(store, key)
    actions: list[Action] = [Put(place, encode(kept)), Delete(key), *freed]
    actions += await _deletes_of_oldest(store)
    if not (await store.txn([unchanged(kv), absent(place), *guards], actions)).succeeded:
        raise SetAsideRefused(f"{key} has just changed; check it and try again")
    return place


async def _found(store: Store, key: str) -> tuple[KeyValue | None, str | None]:
    """Return the value of a key, even a forged one, and why it is unreadable."""
    try:
        kv = await store.get(key)
    except RecordForged as error:
        return error.raw, error.reason
    return kv, why_unreadable(kv) if kv else None


def _require_ours(key: str) -> None:
    if not key.startswith(keys.ROOT) or key.startswith(keys.ASIDE) or key.endswith("/"):
        raise SetAsideRefused(f"{key} is not the key of a record below {keys.ROOT}")
    if key in PROTECTED_KEYS:
        raise SetAsideRefused(f"{key} belongs to Patroni; use vcha failover, or vcha node promote")


def _require_ended(kv: KeyValue) -> None:
    """Raise SetAsideRefused for a task that has not ended: its runner would continue."""
    if not kv.key.startswith(keys.TASKS):
        return
    task = decode(kv, TaskRecord)
    if not task.finished:
        raise SetAsideRefused(f"the task has not ended; cancel it: vcha task cancel {task.id}")


async def _operation_of(store: Store, key: str) -> tuple[list[Compare], list[Action]]:
    """Return the operations that release the operation lock if this task holds it.

    Nothing else could release it.
    """
    operation = await store.get(keys.OPERATION)
    if operation is None or key != keys.task(operation.value.decode(errors="backslashreplace")):
        return [], []
    return [unchanged(operation)], [Delete(operation.key), Delete(keys.REQUIRED_VOTES)]


async def _deletes_of_oldest(store: Store) -> list[Action]:
    """Return the deletes of the oldest records set aside, so that they never fill the store."""
    places = sorted(kv.key for kv in await store.prefix(keys.ASIDE, keys_only=True))
    return [Delete(place) for place in places[: max(0, len(places) - MAX_KEPT_RECORDS + 1)]]


prepare(__name__)
