"""A thief with a vote forges the keys by which data nodes agree who works: no node waits for it."""

import asyncio

import pytest

from openvcha.api.secret import Secret
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.lease import LeaseLock, acquire, campaign
from openvcha.store.memory import MemoryStore
from openvcha.store.sealing.seal import RESERVED, Seals
from openvcha.store.sealing.sealed_store import SealedStore

pytestmark = pytest.mark.looptime
LATEST = 120.0
TTL = 10
HELD = pytest.mark.parametrize("key", [keys.RUNNER, keys.DEFRAGMENTATION])


class SharedStore:
    """The store as a thief writes to it, and as a data node does."""

    def __init__(self) -> None:
        self.raw = MemoryStore()
        self.sealed = self.node()

    def node(self) -> SealedStore:
        return SealedStore(self.raw, Seals(lambda: [Secret("a key of the data nodes")]))

    async def kept_alive(self) -> int:
        """Grant a lease that does not expire as long as the thief renews it."""
        return await self.raw.lease_grant(1 << 30)

    async def held(self, key: str) -> LeaseLock:
        async with asyncio.timeout(LATEST):
            return await campaign(self.sealed, key, b"a-1", TTL)

    async def value(self, key: str) -> KeyValue:
        found = await self.sealed.get(key)
        assert found is not None
        return found


@HELD
@pytest.mark.parametrize("value", [b"thief", b"a-1", b"", b"\xff", b"openvcha-seal reserved"])
@pytest.mark.parametrize("leased", [False, True])
async def test_a_false_hold_is_none(key: str, value: bytes, leased: bool) -> None:
    """Whatever its value is, and also with a lease that he keeps alive."""
    shared = SharedStore()
    await shared.raw.put(key, value, await shared.kept_alive() if leased else 0)
    hold = await shared.held(key)
    assert (await shared.value(key)).value == b"a-1"
    assert (await shared.sealed.txn([hold.guard], [])).succeeded
    await hold.release()
    assert await shared.raw.get(key) is None


@HELD
@pytest.mark.parametrize("written", [b"thief", None, RESERVED])
async def test_who_is_written_over_lets_go_and_goes_on(key: str, written: bytes | None) -> None:
    """Overwritten with his own value, with the one found there, or with a mere reservation."""
    shared = SharedStore()
    first = await shared.held(key)
    found = await shared.raw.get(key)
    assert found is not None
    await shared.raw.put(
        key, found.value if written is None else written, await shared.kept_alive()
    )
    async with asyncio.timeout(LATEST):
        await first.lost.wait()
    await first.release()
    second = await shared.held(key)
    assert second.revision > first.revision
    assert not (await shared.sealed.txn([first.guard], [])).succeeded
    await second.release()


@HELD
async def test_who_takes_it_over_at_once_fences_off_who_held_it(key: str) -> None:
    """Although the thief makes it look like a mere reservation."""
    shared = SharedStore()
    first = await shared.held(key)
    await shared.raw.put(key, RESERVED, await shared.kept_alive())
    second = await shared.held(key)
    assert second.revision > first.revision
    assert not (await shared.sealed.txn([first.guard], [])).succeeded
    await first.release()
    await second.release()


@HELD
async def test_who_waits_hears_of_it_though_nothing_is_deleted(key: str) -> None:
    """The overwrite detached the key from the holder's lease, whose end no longer deletes it."""
    shared = SharedStore()
    first = await shared.held(key)
    waiting = asyncio.create_task(campaign(shared.node(), key, b"b-2", TTL))
    await asyncio.sleep(1)
    await shared.raw.put(key, b"thief", await shared.kept_alive())
    async with asyncio.timeout(LATEST):
        second = await waiting
        await first.lost.wait()
    await first.release()
    assert (await shared.value(key)).value == b"b-2"
    await second.release()


@HELD
async def test_a_true_hold_is_respected(key: str) -> None:
    """One of another data node, for as long as its lease is renewed."""
    shared = SharedStore()
    first = await shared.held(key)
    await asyncio.sleep(5 * TTL)
    assert await acquire(shared.node(), key, b"b-2", TTL) is None
    assert not first.lost.is_set()
    assert (await shared.value(key)).value == b"a-1"
    await first.release()
