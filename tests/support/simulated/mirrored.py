"""A mirror of a store, with the events it received and the requests it made."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from openvcha.store import keys
from openvcha.store.errors import Compacted, StoreUnavailable
from openvcha.store.interface import Event, KeyValue, Snapshot, Store, TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.store.mirror import (
    MIRRORED,
    Mirror,
)
from openvcha.store.write_marks import WriteMarks


class Remote(MemoryStore):
    """A distant simulated store: requests and events take time; reads are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.away = False
        self.lag = 0.0
        self.chance: random.Random | None = None

    async def get(self, key: str) -> KeyValue | None:
        """Count and read a key."""
        self._count(key)
        await self._trip()
        found = await super().get(key)
        await self._trip()
        return found

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Count and read several keys."""
        self._count(*names)
        await self._trip()
        found = await super().get_many(names)
        await self._trip()
        return found

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Count and read the keys with a prefix."""
        self._count(prefix)
        return await super().prefix(prefix, keys_only=keys_only)

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read a prefix with its revision. Raises StoreUnavailable while it is away."""
        if self.away:
            raise StoreUnavailable("away")
        await self._trip()
        found = await super().snapshot(prefix)
        await self._trip()
        return found

    async def txn(self, *parts: Any) -> TxnResult:
        """Run a transaction, with the delays of a network."""
        await self._trip()
        result = await super().txn(*parts)
        await self._trip()
        return result

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        """Yield changes late, in as many parts as etcd may send."""
        async with aclosing(super().watch(target, start_revision)) as changes:
            async for events in changes:
                # Whole revisions, as etcd sends them, in as many parts as it likes.
                for revision in sorted({event.kv.mod_revision for event in events}):
                    await asyncio.sleep(self.lag)
                    await self._trip()
                    yield [event for event in events if event.kv.mod_revision == revision]

    def _count(self, *names: str) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.reads += names

    async def _trip(self) -> None:
        if self.chance:
            await asyncio.sleep(self.chance.uniform(0, 0.05))


@asynccontextmanager
async def mirrored(
    store: Store,
    names: Sequence[str] = MIRRORED,
    root: str = keys.ROOT,
    writes: WriteMarks | None = None,
) -> AsyncIterator[Mirror]:
    """Mirror a store, as a program does; restart whatever ends."""
    mirror = Mirror(store, names, root, asyncio.get_running_loop().time, writes=writes)

    async def always() -> None:
        while True:
            with suppress(Compacted, StoreUnavailable):
                await mirror.follow()
            await asyncio.sleep(0.1)

    following = asyncio.create_task(always())
    await asyncio.sleep(0.01)
    yield mirror
    following.cancel()
    await asyncio.wait([following])
