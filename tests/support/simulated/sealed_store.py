"""A store that holds sealed records, with everyone who may write there."""

import msgspec

from openvcha.api.secret import Secret
from openvcha.store import keys
from openvcha.store.interface import (
    KeyValue,
)
from openvcha.store.memory import MemoryStore
from openvcha.store.records import Record
from openvcha.store.sealing.kept import GoodValue
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore

KEY = keys.user("anna")


OLD, NEW = Secret("a key of the data nodes"), Secret("another key")


class Thing(msgspec.Struct, frozen=True):
    """The record that the tests store."""

    text: str


class Kept:
    """Keeps the cluster's configuration in memory."""

    def __init__(self) -> None:
        self.value: GoodValue | None = None

    def keeps(self, key: str) -> bool:
        """Return whether a key is the kept one."""
        return key == keys.CLUSTER

    def load(self, key: str) -> GoodValue | None:
        """Return the kept value, if any."""
        assert key == keys.CLUSTER
        return self.value

    def save(self, key: str, good: GoodValue) -> None:
        """Keep a value."""
        assert key == keys.CLUSTER
        self.value = good


class SharedStore:
    """A store, as data nodes and as a thief see it."""

    def __init__(self) -> None:
        self.raw = MemoryStore()
        self.known = [OLD]
        self.kept = Kept()
        self.now = 0.0
        self.store = self.again()

    def again(self) -> SealedStore:
        """Return another process of a data node."""
        return SealedStore(self.raw, Seals(lambda: self.known), self.kept, lambda: self.now)

    def record(self, key: str = KEY) -> Record[Thing]:
        """Return the record of a key."""
        return Record(self.store, key, Thing)

    async def stored(self, key: str = KEY) -> KeyValue:
        """Return the stored bytes of a key."""
        found = await self.raw.get(key)
        assert found is not None
        return found
