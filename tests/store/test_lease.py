"""Holding a key: one holder at a time, which learns in time that it has lost it."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from tests.support.etcd_servers import Server

from openvcha.store.errors import OutcomeUnknown, StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Action, Compare, TxnResult
from openvcha.store.lease import acquire, campaign
from openvcha.store.memory import MemoryStore

AnyStore = MemoryStore | Etcd
TTL = 6
"""Long enough that a busy machine renews in time, two thirds of it after the last renewal."""


class Breakable(MemoryStore):
    """Simulated: a store that can be isolated, hang, or lose the answer of a transaction."""

    cut = False
    hangs = False
    loses_answer = False

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew, unless isolated."""
        if self.cut:
            raise StoreUnavailable("cut off")
        if self.hangs:
            await asyncio.Event().wait()
        return await super().lease_keep_alive(lease)

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run the transaction, and perhaps lose the answer."""
        result = await super().txn(compares, success, failure)
        if self.loses_answer:
            raise OutcomeUnknown("the answer was lost")
        return result


async def test_one_holder(store: AnyStore, root: str) -> None:
    """The second gets nothing until the first has released the key; tokens grow."""
    first = await acquire(store, root + "k", b"one", 5)
    assert first is not None
    assert await acquire(store, root + "k", b"two", 5) is None
    kv = await store.get(root + "k")
    assert kv is not None
    assert (kv.value, kv.create_revision) == (b"one", first.revision)
    assert (await store.txn([first.guard], [])).succeeded
    await first.release()
    assert first.lost.is_set()
    assert await store.get(root + "k") is None
    async with await campaign(store, root + "k", b"two", 5) as second:
        assert second.revision > first.revision
        assert not (await store.txn([first.guard], [])).succeeded
        assert not second.lost.is_set()


async def test_campaign_waits_until_free(store: AnyStore, root: str) -> None:
    """A campaign ends as soon as the holder releases the key."""
    first = await campaign(store, root + "k", b"", 60)
    waiting = asyncio.create_task(campaign(store, root + "k", b"", 60))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    await first.release()
    async with asyncio.timeout(30):
        second = await waiting
    await second.release()


@pytest.mark.engines
async def test_hold_outlives_its_ttl(single: Callable[[str], Server], root: str) -> None:
    """The lease is renewed as long as the key is held: in both versions of etcd, at once."""

    async def outlives(kind: str) -> None:
        server = await asyncio.to_thread(single, kind)
        async with (
            Etcd([server.url], server.tls.source()) as store,
            await campaign(store, root + "k", b"", TTL) as hold,
        ):
            assert not await _lost(hold.lost, TTL * 1.3)
            assert await store.get(root + "k") is not None

    await asyncio.gather(*(outlives(kind) for kind in ("system", "wheel")))


async def test_deleted_key_is_lost(store: AnyStore, root: str) -> None:
    """A deleted key is lost, even if another process has created it again."""
    async with await campaign(store, root + "k", b"", TTL) as hold:
        await store.delete(root + "k")
        await store.put(root + "k", b"other")
        assert await _lost(hold.lost, 60)
    kv = await store.get(root + "k")
    assert kv is not None  # releasing deleted only our own key


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["cut", "hangs"])
async def test_lost_when_renewal_fails(how: str) -> None:
    """When the lease cannot be renewed, it is lost by the time another may take the key."""
    store = Breakable()
    loop = asyncio.get_running_loop()
    hold = await campaign(store, "k", b"", 30)
    await asyncio.sleep(100)
    assert not hold.lost.is_set()
    setattr(store, how, True)
    async with await campaign(store, "k", b"", 30):
        taken = loop.time()
        assert hold.lost.is_set() or await _lost(hold.lost, 0.001)
        assert 120 <= taken <= 140
    store.hangs = False
    await hold.release()


@pytest.mark.looptime
async def test_short_cut_is_no_loss() -> None:
    """A store that is back before the lease expires costs nothing."""
    store = Breakable()
    hold = await campaign(store, "k", b"", 30)
    store.cut = True
    await asyncio.sleep(25)
    store.cut = False
    await asyncio.sleep(60)
    assert not hold.lost.is_set()
    await hold.release()


async def test_lost_answer_of_taking() -> None:
    """When the answer was lost, the key's holder is read."""
    store = Breakable()
    store.loses_answer = True
    hold = await acquire(store, "k", b"", 30)
    assert hold is not None
    assert await acquire(store, "k", b"", 30) is None
    await hold.release()


async def _lost(lost: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await lost.wait()
    except TimeoutError:
        return False
    return True
