"""Typed records: structures as JSON, changed by compare-and-set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from openvcha.store import bounded_json
from openvcha.store.errors import (
    Fenced,
    OutcomeUnknown,
    RecordForged,
    RecordInvalid,
    RecordMissing,
    RecordUnreadable,
)
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
from openvcha.store.text_limits import truncated
from openvcha.system.structlog_light import structlog

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A decoded value with the key-value pair that it was read from."""

    value: T
    kv: KeyValue


def encode(value: object) -> bytes:
    """Encode a value for the store, with its texts truncated. All records are encoded here."""
    return msgspec.json.encode(truncated(value))


def decode(kv: KeyValue, type_: type[T]) -> T:
    """Decode a stored value. Raises RecordInvalid, which names the key."""
    try:
        return bounded_json.decode(kv.value, type_)
    except msgspec.MsgspecError as error:
        raise RecordInvalid(kv.key, str(error)) from error


def readable(found: Iterable[KeyValue], type_: type[T]) -> Iterator[tuple[KeyValue, T]]:
    """Yield the stored values that can be decoded; log the others."""
    for kv in found:
        try:
            yield kv, decode(kv, type_)
        except RecordUnreadable as error:
            _log.warning("a record cannot be read", key=kv.key, reason=error.reason)


class Record(Generic[T]):
    """A value of a type ``T`` that msgspec can encode, under one key.

    ``guards`` are further conditions, e.g. ``LeaseLock.guard``; if one of them does not hold,
    nothing is written and Fenced is raised. ``also`` is written in the same transaction.
    """

    def __init__(self, store: Store, key: str, type_: type[T]) -> None:
        self._store = store
        self._type = type_
        self.key = key

    async def get(self) -> T | None:
        """Read the value; None when there is none."""
        found = await self.read()
        return None if found is None else found.value

    async def read(self) -> Stored[T] | None:
        """Read the value with its revisions, e.g. for a transaction with ``unchanged``."""
        kv = await self._store.get(self.key)
        return None if kv is None else Stored(decode(kv, self._type), kv)

    async def read_valid(self) -> Stored[T] | None:
        """Read the value like ``read``; a forged one counts as missing."""
        try:
            return await self.read()
        except RecordForged:
            return None

    async def create(
        self,
        value: T,
        *,
        guards: Sequence[Compare] = (),
        also: Sequence[Action] = (),
        lease: int = 0,
    ) -> bool:
        """Write the value unless one exists; return whether it was written. Raises Fenced."""
        result = await self._store.txn(
            [absent(self.key), *guards],
            [Put(self.key, encode(value), lease), *also],
            [Get(self.key)],
        )
        if result.succeeded:
            return True
        if not result.results[0]:
            raise Fenced(f"{self.key}: not created, a guard did not hold")
        return False

    async def update(
        self,
        change: Callable[[T], T],
        *,
        guards: Sequence[Compare] = (),
        also: Sequence[Action] = (),
        idempotent: bool = False,
    ) -> T:
        """Write ``change(value)`` and return it; retry if another writer interferes.

        ``change`` must be free of side effects. Nothing is written when it changes nothing. With
        ``idempotent`` (a change that may safely be applied twice), it retries after an unknown
        outcome; else it raises OutcomeUnknown. The key keeps its lease.
        Raises RecordMissing, Fenced.
        """
        while True:
            found = await self.read()
            if found is None:
                raise RecordMissing(f"{self.key}: not there")
            new = change(found.value)
            if new == found.value and not also:
                return new
            try:
                if await self._replace(found.kv, new, guards, also):
                    return new
            except OutcomeUnknown:
                if not idempotent:
                    raise

    async def _replace(
        self, old: KeyValue, new: T, guards: Sequence[Compare], also: Sequence[Action]
    ) -> bool:
        result = await self._store.txn(
            [unchanged(old), *guards],
            [Put(self.key, encode(new), old.lease), *also],
            [Get(self.key)],
        )
        if result.succeeded:
            return True
        now = result.results[0]
        if now and now[0].mod_revision == old.mod_revision:
            raise Fenced(f"{self.key}: not changed, a guard did not hold")
        return False

    async def delete(self, *, guards: Sequence[Compare] = ()) -> bool:
        """Delete the value, even a forged one; return whether it existed. Raises Fenced."""
        if not guards:
            return await self._store.delete(self.key)
        result = await self._store.txn(guards, [Get(self.key), Delete(self.key)])
        if not result.succeeded:
            raise Fenced(f"{self.key}: not deleted, a guard did not hold")
        return bool(result.results[0])


class Records(Generic[T]):
    """All records of one type below a prefix that ends in ``/``."""

    def __init__(self, store: Store, prefix: str, type_: type[T]) -> None:
        self._store = store
        self._type = type_
        self.prefix = prefix

    def record(self, key: str) -> Record[T]:
        """Return the record under a full key."""
        return Record(self._store, key, self._type)

    async def all(self) -> dict[str, T]:
        """Read all records, by full key; unreadable ones are left out."""
        found = await self._store.prefix(self.prefix)
        return {kv.key: value for kv, value in readable(found, self._type)}
