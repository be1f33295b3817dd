"""A numbered ring of records with a limit: adding one deletes the oldest."""

from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from openvcha.store.interface import Action, Delete, Get, Put, Store
from openvcha.store.records import encode, readable

DIGITS: Final = 16
MAX_NUMBER: Final = 10**15
"""The highest number of a record; a key with a higher one is not ours."""
CHUNK = 100
"""The store takes 128 actions at a time."""


class Timed(Protocol):
    """A record with the time of its creation."""

    @property
    def time(self) -> datetime:
        """Return that time."""
        ...


T = TypeVar("T", bound=Timed)


class Ring(Generic[T]):
    """The records 1, 2, 3… below a prefix, of which the newest ``limit`` are kept."""

    def __init__(self, store: Store, prefix: str, type_: type[T], limit: int) -> None:
        self._store = store
        self._type = type_
        self.prefix = prefix
        self.limit = limit

    def key(self, number: int) -> str:
        """Return a record's key; keys sort as numbers do."""
        return f"{self.prefix}{number:0{DIGITS}}"

    def number(self, key: str) -> int:
        """Return the number in a record's key; 0 for any other key."""
        text = key.removeprefix(self.prefix)
        number = int(text) if text.isascii() and text.isdigit() and len(text) == DIGITS else 0
        return number if number <= MAX_NUMBER else 0

    def put(self, number: int, record: T) -> list[Action]:
        """Return the actions that write a record and delete the oldest."""
        actions: list[Action] = [Put(self.key(number), encode(record))]
        if number > self.limit:
            actions.append(Delete(self.key(number - self.limit)))
        return actions

    async def last(self) -> int:
        """Return the number of the newest record; 0 when there is none."""
        found = await self._store.prefix(self.prefix, keys_only=True)
        return max((self.number(kv.key) for kv in found), default=0)

    async def read(self, first: int, last: int) -> list[T]:
        """Read the records from ``first`` to ``last`` that (still) exist, in order."""
        found: list[T] = []
        for begin in range(max(first, last - self.limit + 1, 1), last + 1, CHUNK):
            numbers = range(begin, min(begin + CHUNK, last + 1))
            answer = await self._store.txn([], [Get(self.key(number)) for number in numbers])
            read = readable([kv for kvs in answer.results for kv in kvs], self._type)
            found += [record for _, record in read]
        return found

    async def sweep(self, oldest: datetime) -> int:
        """Delete the records from before ``oldest``; return how many."""
        keys = [kv.key for kv in await self._store.prefix(self.prefix, keys_only=True)]
        swept = 0
        for begin in range(0, len(keys), CHUNK):
            chunk = keys[begin : begin + CHUNK]
            answer = await self._store.txn([], [Get(key) for key in chunk])
            found = list(readable([kv for kvs in answer.results for kv in kvs], self._type))
            old = [kv.key for kv, record in found if record.time < oldest]
            if old:
                await self._store.txn([], [Delete(key) for key in old])
            swept += len(old)
            if len(old) < len(found):
                break
        return swept
