"""A read from the mirror returns what the store would have returned."""

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.etcd_servers import Server
from tests.support.simulated.mirrored import Remote, mirrored

from openvcha.store import keys
from openvcha.store.call_reads import reads_of_call
from openvcha.store.errors import StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Delete, KeyValue, Put, Snapshot, Store, TxnResult
from openvcha.store.mirror import (
    ABSENT_KEY,
    BACKOFF_SECONDS,
    CALL_SECONDS,
    CATCH_UP_SECONDS,
    FRESH_SECONDS,
    MAX_CATCH_UP_SECONDS,
    MIRRORED,
    RENEW_SECONDS,
    Mirror,
)
from openvcha.store.write_marks import SharedWrites

pytestmark = pytest.mark.looptime

ALICE, BOB = keys.user("alice"), keys.user("bob")


async def value(mirror: Mirror, key: str) -> bytes | None:
    found = await mirror.get(key)
    return found.value if found else None


async def test_what_is_known_is_not_asked_again() -> None:
    """One proof serves all readers within its time, and none is requested without readers."""
    remote = Remote()
    await remote.put(ALICE, b"1")
    async with mirrored(remote) as mirror:
        for _ in range(100):
            assert await value(mirror, ALICE) == b"1"
            assert await value(mirror, BOB) is None
            assert await mirror.get_many([BOB, ALICE]) == [None, await mirror.get(ALICE)]
            assert [kv.key for kv in await mirror.prefix(keys.USERS)] == [ALICE]
            assert [kv.value for kv in await mirror.prefix(keys.USERS, keys_only=True)] == [b""]
        assert remote.reads == []
        await mirror.get(keys.DEFRAGMENTATION)
        await mirror.get_many([ALICE, keys.DEFRAGMENTATION])
        await mirror.prefix(keys.ROOT)
        assert remote.reads == [keys.DEFRAGMENTATION, ALICE, keys.DEFRAGMENTATION, keys.ROOT]


async def test_a_list_is_of_the_latest_state_though_it_is_kept() -> None:
    """A list of keys is built once for each state; a caller that changes his list changes his."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        for names, change in (
            ([BOB], mirror.put(BOB, b"1")),
            ([ALICE, BOB], mirror.put(ALICE, b"1")),
            ([ALICE, BOB], mirror.put(BOB, b"2")),
            ([BOB], mirror.delete(ALICE)),
        ):
            await change
            for keys_only in (True, False, True, False):
                found = await mirror.prefix(keys.USERS, keys_only=keys_only)
                expected = await remote.prefix(keys.USERS, keys_only=keys_only)
                assert [kv.key for kv in found] == names
                assert found == expected
                found.clear()


class Slow(Remote):
    """A simulated store that is slow to report its revision."""

    def __init__(self) -> None:
        super().__init__()
        self.proofs: list[float] = []
        self.delay = 0.05

    async def snapshot(self, prefix: str) -> Snapshot:
        if prefix == ABSENT_KEY:
            self.proofs.append(asyncio.get_running_loop().time())
            await asyncio.sleep(self.delay)
        return await super().snapshot(prefix)


async def test_nobody_waits_for_a_proof_while_others_read() -> None:
    """The next proof arrives before the last one expires, and there are no more than needed."""
    remote, loop = Slow(), asyncio.get_running_loop()
    async with mirrored(remote) as mirror:
        await mirror.get(ALICE)
        begun = loop.time()
        for _ in range(300):
            before = loop.time()
            await mirror.get(ALICE)
            assert loop.time() == before
            await asyncio.sleep(0.01)
        assert remote.reads == []
        assert len(remote.proofs) <= (loop.time() - begun) / RENEW_SECONDS + 1


async def test_who_reads_rarely_has_no_proofs_made_for_nothing() -> None:
    """One call reads several times; that is no reason for further requests to the store."""
    remote = Slow()
    async with mirrored(remote) as mirror:
        for _ in range(5):
            await mirror.get(ALICE)
            await mirror.get(BOB)
            await asyncio.sleep(1.0)
        assert len(remote.proofs) == 5


async def test_a_proof_that_fails_in_the_background_is_told_to_who_reads_next() -> None:
    """And it is retried at the next read."""
    remote = Slow()
    async with mirrored(remote) as mirror:
        await mirror.get(ALICE)
        await asyncio.sleep(RENEW_SECONDS * 0.9)
        await mirror.get(ALICE)
        remote.away = True
        await asyncio.sleep(FRESH_SECONDS)
        with pytest.raises(StoreUnavailable):
            await mirror.get(ALICE)
        remote.away = False
        assert await value(mirror, ALICE) is None
        assert remote.reads == []


async def test_its_own_write_counts_at_once() -> None:
    """Whatever it is, and although the watch lags; then the store itself is read."""
    remote = Remote()
    lease = await remote.lease_grant(60)
    async with mirrored(remote) as mirror:
        assert await value(mirror, ALICE) is None
        remote.lag = CATCH_UP_SECONDS / 2
        for number in range(5):
            await mirror.put(ALICE, b"%d" % number)
            assert await value(mirror, ALICE) == b"%d" % number
        await mirror.delete(ALICE)
        assert await value(mirror, ALICE) is None
        await mirror.put(ALICE, b"leased", lease)
        assert await value(mirror, ALICE) == b"leased"
        await mirror.lease_revoke(lease)
        assert await value(mirror, ALICE) is None
        await mirror.txn([], [Put(ALICE, b"x"), Put(BOB, b"y")])
        assert await value(mirror, BOB) == b"y"
        await mirror.delete_prefix(keys.USERS)
        assert await value(mirror, BOB) is None


async def test_a_write_that_failed_voids_the_proof_too() -> None:
    """It may have been carried out."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        assert await value(mirror, ALICE) is None
        original = remote.txn

        async def unknown(*parts: Any) -> TxnResult:
            await original(*parts)
            raise StoreUnavailable("nobody knows")

        remote.txn = unknown  # type: ignore[method-assign]  # a store with faults
        with pytest.raises(StoreUnavailable):
            await mirror.put(ALICE, b"1")
        assert await value(mirror, ALICE) == b"1"


async def test_anothers_write_counts_after_the_bound() -> None:
    """After that time the promise holds; earlier too, if the watch has delivered the write."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        assert await value(mirror, ALICE) is None
        remote.lag = 10.0
        await remote.put(ALICE, b"1")
        assert await value(mirror, ALICE) is None
        await asyncio.sleep(FRESH_SECONDS)
        assert await value(mirror, ALICE) == b"1"
        assert remote.reads == [ALICE]


async def test_a_write_through_another_copy_counts_at_once_with_shared_marks(
    tmp_path: Path,
) -> None:
    """A client may write through one process of the API and read through another."""
    remote = Remote()
    one, two = (SharedWrites(tmp_path / "writes", writer) for writer in (1, 2))
    async with mirrored(remote, writes=one) as first, mirrored(remote, writes=two) as second:
        remote.lag = CATCH_UP_SECONDS / 4
        for number in range(5):
            assert await value(first, BOB) is None
            assert await value(second, BOB) is None
            writer, reader = (first, second) if number % 2 else (second, first)
            await writer.put(ALICE, b"%d" % number)
            assert await value(reader, ALICE) == b"%d" % number
            await asyncio.sleep(FRESH_SECONDS)


async def test_a_proof_counts_from_when_it_was_asked_for() -> None:
    """Not from when its answer came: much may have been written in between."""
    remote = Remote()
    original = remote.snapshot

    async def late(prefix: str) -> Snapshot:
        found = await original(prefix)
        await asyncio.sleep(1.0)
        return found

    async with mirrored(remote) as mirror:
        remote.snapshot = late  # type: ignore[method-assign]  # a slow answer
        reading = asyncio.create_task(value(mirror, ALICE))
        await asyncio.sleep(0.1)
        remote.lag = 10.0
        await remote.put(ALICE, b"1")
        assert await reading is None
        assert await value(mirror, ALICE) == b"1"


async def test_a_call_needs_one_proof_however_long_that_takes() -> None:
    """Otherwise a busy machine would have each of its reads go to the store."""
    remote, loop = Slow(), asyncio.get_running_loop()
    remote.delay = 2 * FRESH_SECONDS
    async with mirrored(remote) as mirror:
        with reads_of_call(loop.time()):
            for _ in range(3):
                assert await value(mirror, ALICE) is None
            await asyncio.create_task(value(mirror, BOB))
        assert len(remote.proofs) == 1
        await mirror.get(ALICE)
        assert len(remote.proofs) == 2
        assert remote.reads == []


async def test_a_proof_counts_only_for_calls_that_began_before_it() -> None:
    """Another program may have written in between; and no call accepts an old one for ever."""
    remote, loop = Slow(), asyncio.get_running_loop()
    remote.delay = 0.0
    async with mirrored(remote) as mirror:
        assert await value(mirror, ALICE) is None
        remote.lag = 10.0
        await asyncio.sleep(FRESH_SECONDS)
        await remote.put(ALICE, b"1")
        with reads_of_call(loop.time()):
            assert await value(mirror, ALICE) == b"1"
        remote.lag = 0.0
        await asyncio.sleep(10.0 + BACKOFF_SECONDS)
        remote.proofs.clear()
        with reads_of_call(loop.time()):
            for _ in range(2):
                await mirror.get(ALICE)
                await asyncio.sleep(CALL_SECONDS * 0.9)
            assert len(remote.proofs) == 1
            await mirror.get(ALICE)
        assert len(remote.proofs) == 2


async def test_a_call_sees_its_own_writes_and_need_not_see_those_of_others() -> None:
    """Each write voids the proofs of later calls, but of its own call only."""
    remote, loop = Slow(), asyncio.get_running_loop()
    async with mirrored(remote) as mirror:
        with reads_of_call(loop.time()):
            assert await value(mirror, ALICE) is None
            before = len(remote.proofs)
            await asyncio.create_task(mirror.put(BOB, b"1"), context=contextvars.Context())
            assert await value(mirror, ALICE) is None
            assert len(remote.proofs) == before
            remote.lag = CATCH_UP_SECONDS / 2
            await mirror.put(ALICE, b"1")
            assert await value(mirror, ALICE) == b"1"


async def test_a_copy_that_makes_progress_is_waited_for() -> None:
    """A busy machine delivers the events late, and reads from the store take even longer there."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        remote.lag = CATCH_UP_SECONDS * 0.7
        for number in range(5):
            await remote.put(ALICE, b"%d" % number)
        assert await value(mirror, ALICE) == b"4"
        assert remote.reads == []


async def test_a_copy_that_falls_behind_is_not_waited_for_without_end() -> None:
    """Even if it makes progress all the time."""
    remote, loop = Remote(), asyncio.get_running_loop()
    async with mirrored(remote) as mirror:
        remote.lag = CATCH_UP_SECONDS * 0.9
        for number in range(50):
            await remote.put(ALICE, b"%d" % number)
        begun = loop.time()
        assert await value(mirror, ALICE) == b"49"
        assert loop.time() - begun == pytest.approx(MAX_CATCH_UP_SECONDS)
        assert remote.reads == [ALICE]


async def test_a_copy_that_lags_is_not_waited_for_again_and_again() -> None:
    """For a while reads go to the store at once; after that the mirror gets another chance."""
    remote = Remote()
    loop = asyncio.get_running_loop()
    async with mirrored(remote) as mirror:
        remote.lag = 1.0
        await remote.put(ALICE, b"1")
        begun = loop.time()
        assert await value(mirror, ALICE) == b"1"
        assert loop.time() - begun == pytest.approx(CATCH_UP_SECONDS)
        for _ in range(5):
            assert await value(mirror, ALICE) == b"1"
        assert loop.time() - begun == pytest.approx(CATCH_UP_SECONDS)
        assert len(remote.reads) == 6
        await asyncio.sleep(BACKOFF_SECONDS + CATCH_UP_SECONDS)
        assert await value(mirror, ALICE) == b"1"
        assert len(remote.reads) == 6


async def test_a_mark_is_another_one_after_each_change_that_matters_or_nobody_knows() -> None:
    """It is proven like a read."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        first = await mirror.change_number()
        assert first is not None
        await remote.put(keys.PATRONI_STATUS, b"1")
        await asyncio.sleep(FRESH_SECONDS)
        assert await mirror.change_number() == first
        remote.lag = 1.0
        await remote.put(keys.PATRONI_SYNC, b"1")
        await asyncio.sleep(FRESH_SECONDS)
        assert await mirror.change_number() is None
        await asyncio.sleep(BACKOFF_SECONDS)
        assert await mirror.change_number() not in {first, None}


async def test_a_write_elsewhere_in_the_store_costs_time_only() -> None:
    """Its revision never arrives by the watch: until a later one does, the store is read."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        await remote.put("/somebody/elses", b"1")
        assert await value(mirror, ALICE) is None
        assert remote.reads == [ALICE]
        await remote.put(keys.PATRONI_STATUS, b"2")
        await asyncio.sleep(BACKOFF_SECONDS)
        assert await value(mirror, ALICE) is None
        assert remote.reads == [ALICE]


async def test_without_the_store_nothing_is_answered() -> None:
    """An isolated node does not go on with what it knew."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        assert await value(mirror, ALICE) is None
        await asyncio.sleep(FRESH_SECONDS)
        remote.away = True
        with pytest.raises(StoreUnavailable):
            await mirror.get(ALICE)


async def test_after_a_compaction_it_begins_anew() -> None:
    """What the watch missed is in the next snapshots."""
    remote = Remote()
    async with mirrored(remote) as mirror:
        remote.lag = 1.0
        for number in range(5):
            await remote.put(ALICE, b"%d" % number)
        await remote.delete(ALICE)
        await remote.put(BOB, b"1")
        await remote.compact(remote.revision)
        remote.lag = 0.0
        await asyncio.sleep(BACKOFF_SECONDS + 1)
        remote.reads.clear()
        assert await mirror.get_many([ALICE, BOB]) == [None, await remote.get(BOB)]
        assert remote.reads == [BOB]


async def test_a_copy_that_was_made_piece_by_piece_is_not_shown_before_it_is_of_one_revision() -> (
    None
):
    """Others write between two snapshots: what the second one has, the first one lacks."""
    remote = Remote()
    loop = asyncio.get_running_loop()
    names = iter(MIRRORED)
    original = remote.snapshot

    async def snapshot(prefix: str) -> Snapshot:
        found = await original(prefix)
        if next(names, None) is not None:
            await remote.txn([], [Put(ALICE, b"%d" % remote.revision), Put(keys.CLUSTER, b"")])
            await remote.txn([], [Delete(keys.CLUSTER)])
        return found

    remote.snapshot = snapshot  # type: ignore[method-assign]  # others write meanwhile
    async with mirrored(remote) as mirror:
        remote.reads.clear()
        assert await mirror.get_many([ALICE, keys.CLUSTER]) == [await remote.get(ALICE), None]
        assert remote.reads == [ALICE]
        assert loop.time() < 1


@pytest.mark.parametrize("seed", range(6))
async def test_no_read_is_older_than_what_was_promised(seed: int) -> None:
    """Writers here and elsewhere, requests with random delays, a watch that sometimes lags."""
    remote, chance = Remote(), random.Random(seed)
    remote.chance = chance
    async with mirrored(remote) as mirror, at_work(mirror, remote, keys.USERS, chance) as failed:
        for _ in range(12):
            remote.lag = chance.choice((0.0, 0.0, 0.0, 0.02, 0.5))
            await asyncio.wait([failed], timeout=0.5)


@pytest.mark.engines
@pytest.mark.looptime(False)
async def test_no_read_is_older_than_what_was_promised_by_etcd(
    single: Callable[[str], Server], root: str
) -> None:
    """The same with a real one, with the connections of two programs."""
    server = await asyncio.to_thread(single, "system")
    async with (
        CountingEtcd([server.url], server.tls.source()) as client,
        Etcd([server.url], server.tls.source()) as other,
        mirrored(client, [root], "/") as mirror,
        at_work(mirror, other, root, random.Random(0)) as failed,
    ):
        await asyncio.wait([failed], timeout=3.0)
    assert client.asked < 20


class CountingEtcd(Etcd):
    """Counts the reads from the store itself."""

    asked = 0

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        self.asked += 1
        return await super().get_many(names)


async def read_in_calls(
    mirror: Mirror, names: Sequence[str], least: Callable[[str, float], int], chance: random.Random
) -> None:
    """Read as the calls of an API do, some of which take their time."""
    time = asyncio.get_running_loop().time
    while True:
        begun = time()
        with reads_of_call(begun):
            for _ in range(3):
                for key, kv in zip(names, await mirror.get_many(names), strict=True):
                    assert (int(kv.value) if kv else 0) >= least(key, begun)
                await asyncio.sleep(chance.uniform(0, 0.2))
        await asyncio.sleep(chance.uniform(0, 0.02))


@asynccontextmanager
async def at_work(
    mirror: Mirror, elsewhere: Store, prefix: str, chance: random.Random
) -> AsyncIterator[asyncio.Future[Any]]:
    """Write and read all the time; yield a future that fails when a read is wrong.

    Each write puts a larger number. A read never returns less than: what was acknowledged here
    before it began; what was acknowledged elsewhere FRESH_SECONDS before; what was read before. A
    read of a call may return what it would have returned when the call began.
    """
    names = [f"{prefix}alice", f"{prefix}bob"]
    numbers = dict.fromkeys(names, 0)
    turns = {key: asyncio.Lock() for key in names}
    promised: dict[str, list[tuple[float, int]]] = {key: [] for key in names}

    def least(key: str, begun: float) -> int:
        """Return the smallest number that a read may return which began then."""
        return max((number for when, number in promised[key] if when <= begun), default=0)

    async def write(store: Store, after: float) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0, 0.2))
            key = chance.choice(names)
            async with turns[key]:
                numbers[key] += 1
                await store.put(key, b"%d" % numbers[key])
                promised[key].append((time() + after, numbers[key]))

    async def read() -> None:
        last = dict.fromkeys(names, 0)
        while True:
            begun = time()
            for key, kv in zip(names, await mirror.get_many(names), strict=True):
                number = int(kv.value) if kv else 0
                assert number >= max(least(key, begun), last[key])
                last[key] = number
            await asyncio.sleep(chance.uniform(0, 0.02))

    time = asyncio.get_running_loop().time
    works = [write(mirror, 0.0), write(elsewhere, FRESH_SECONDS), read(), read()]
    works.append(read_in_calls(mirror, names, least, chance))
    together = asyncio.gather(*works)
    yield together
    together.cancel()
    with suppress(asyncio.CancelledError):
        await together
    assert min(numbers.values()) > 2
