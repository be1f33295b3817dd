"""Sealed records: what no data node wrote, in this form under this key, is refused."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.support.simulated.sealed_store import KEY, NEW, OLD, SharedStore, Thing

from openvcha.store import keys
from openvcha.store.errors import Fenced, OutcomeUnknown, RecordForged, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    TxnResult,
    absent,
    present,
    unchanged,
    value_is,
)
from openvcha.store.memory import MemoryStore
from openvcha.store.records import Record, Records
from openvcha.store.sealing.kept import GoodValue
from openvcha.store.sealing.seal import FIELD, RESERVED, Seals
from openvcha.store.sealing.sealed_store import (
    KEYS_SECONDS,
    MAX_REFUSED,
    REMEMBERED_SECONDS,
    SealedStore,
)

OTHER = keys.user("bert")
FREE = keys.ROOT + "free"


@pytest.fixture
def shared() -> SharedStore:
    return SharedStore()


async def test_it_looks_like_any_store(shared: SharedStore) -> None:
    """Created, read, changed, listed, deleted; callers see nothing of the seal."""
    record = shared.record()
    assert await record.get() is None
    assert await record.create(Thing("one"))
    assert not await record.create(Thing("another"))
    assert await record.get() == Thing("one")
    await record.update(lambda _: Thing("two"))
    assert await Record(shared.again(), KEY, Thing).get() == Thing("two")
    assert await Records(shared.store, keys.USERS, Thing).all() == {KEY: Thing("two")}
    assert b"openvcha-seal" in (await shared.stored()).value
    assert await record.delete()
    assert await shared.raw.get(KEY) is None
    assert shared.store.refused() == ()


async def test_many_at_once_lose_nothing(shared: SharedStore) -> None:
    """Of concurrent creations one wins; no change is lost; also from several processes."""
    stores = [shared.again() for _ in range(6)]
    made = await asyncio.gather(*(Record(s, KEY, Thing).create(Thing("")) for s in stores))
    assert sorted(made) == [False] * 5 + [True]

    def longer(thing: Thing) -> Thing:
        return Thing(thing.text + "x")

    await asyncio.gather(*(Record(s, KEY, Thing).update(longer) for s in stores))
    assert await shared.record().get() == Thing("x" * 6)
    await asyncio.gather(*(s.put(OTHER, b'{"text":"p"}') for s in stores))
    assert await shared.record(OTHER).get() == Thing("p")


async def test_what_a_thief_makes_up_is_refused_and_told(shared: SharedStore) -> None:
    """Even what looks like a seal; the other records are read as ever."""
    await shared.record().create(Thing("anna"))
    sealed = (await shared.stored()).value
    line, _, value = sealed.partition(b"\n")
    flipped = bytes([value[0] ^ 1]) + value[1:]
    forged = [
        b'{"text":"thief"}',
        line + b"\n" + flipped,
        line.replace(line[-1:], b"0" if line[-1:] != b"0" else b"1") + b"\n" + value,
        b"openvcha-seal \n" + value,
        b"openvcha-seal \xff:\xff\n" + value,
        b"",
        b"\n",
        sealed,
    ]
    for made_up in forged:
        await shared.raw.put(OTHER, made_up)
        with pytest.raises(RecordForged, match="bert"):
            await shared.store.get(OTHER)
        assert await shared.record(OTHER).read_valid() is None
        assert await Records(shared.store, keys.USERS, Thing).all() == {KEY: Thing("anna")}
        assert [kv.key for kv in (await shared.store.snapshot(keys.USERS)).items] == [KEY]
        found = await shared.store.txn([], [Get(OTHER), Get(KEY)])
        assert [len(kvs) for kvs in found.results] == [0, 1]
        assert shared.store.refused() == (OTHER,)
    shared.now = REMEMBERED_SECONDS + 1
    assert shared.store.refused() == ()


async def test_several_are_checked_one_by_one(shared: SharedStore) -> None:
    """A forged one is missing and reported, a good one counts, the cluster is the kept one."""
    for key in (KEY, OTHER, keys.CLUSTER):
        await shared.store.put(key, b'{"text":"good"}')
    await shared.store.get(keys.CLUSTER)
    for key in (KEY, keys.CLUSTER):
        await shared.raw.put(key, b'{"text":"forged"}')
    await shared.raw.put(FREE, b"free")
    names = [KEY, OTHER, keys.CLUSTER, FREE, keys.user("nobody")]
    found = await shared.store.get_many(names)
    good = b'{"text":"good"}'
    assert [kv and kv.value for kv in found] == [None, good, good, b"free", None]
    assert shared.store.refused() == (keys.CLUSTER, KEY)


async def test_an_old_value_does_not_come_back(shared: SharedStore) -> None:
    """Neither written over the new one, nor deleted and restored, nor after a deletion."""
    record = shared.record()
    await record.create(Thing("old password"))
    old = (await shared.stored()).value
    await record.update(lambda _: Thing("new password"))
    new = (await shared.stored()).value
    for value in (old, new):
        await shared.raw.put(KEY, value)
        assert await record.read_valid() is None
    await shared.raw.delete(KEY)
    for _ in range(4):
        for value in (old, new):
            await shared.raw.put(KEY, value)
            assert await record.read_valid() is None
    await shared.raw.delete(KEY)
    await shared.raw.put(OTHER, new)
    assert await shared.record(OTHER).read_valid() is None


async def test_a_seal_is_for_one_place(shared: SharedStore) -> None:
    """Its key, its creation and its version: a difference in any one makes the seal invalid."""
    await shared.record().create(Thing("anna"))
    kv, seals = await shared.stored(), Seals(lambda: [OLD])
    assert seals.unseal(kv) == b'{"text":"anna"}'
    for other in (
        replace(kv, key=OTHER),
        replace(kv, create_revision=kv.create_revision + 1),
        replace(kv, version=kv.version + 1),
        replace(kv, lease=7),
        replace(kv, value=kv.value + b" "),
    ):
        with pytest.raises(RecordForged):
            seals.unseal(other)


async def test_a_record_that_is_as_it_was_is_checked_once_by_the_same_keys(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a mirror returns it again or the store; a forged record is refused each time."""
    await shared.record().create(Thing("anna"))
    checked: list[str] = []
    original = Seals.unseal

    def counted(seals: Seals, kv: KeyValue) -> bytes:
        checked.append(kv.key)
        return original(seals, kv)

    monkeypatch.setattr(Seals, "unseal", counted)
    for _ in range(3):
        assert await shared.record().get() == Thing("anna")
    assert checked == [KEY]
    kv = await shared.stored()
    shared.raw._keys[KEY] = replace(kv)
    assert await shared.record().get() == Thing("anna")
    assert checked == [KEY]
    for moved in (
        replace(kv, create_revision=kv.create_revision + 1),
        replace(kv, version=kv.version + 1),
        replace(kv, lease=7),
        replace(kv, value=kv.value + b" "),
    ):
        shared.raw._keys[KEY] = moved
        with pytest.raises(RecordForged):
            await shared.record().get()
    shared.raw._keys[KEY] = kv
    checked.clear()
    assert await shared.record().get() == Thing("anna")
    shared.known = [NEW]
    shared.now += KEYS_SECONDS
    for _ in range(2):
        with pytest.raises(RecordForged):
            await shared.record().get()
    assert checked == [KEY] * 2


async def test_a_key_that_is_taken_away_counts_for_a_moment_and_for_old_records_only(
    shared: SharedStore,
) -> None:
    """New records are checked with the current keys, and sealed with them."""
    await shared.record().create(Thing("anna"))
    assert await shared.record().get() == Thing("anna")
    old = await shared.stored()
    shared.known = [NEW]
    shared.now += KEYS_SECONDS * 0.9
    assert await shared.record().get() == Thing("anna")
    shared.raw._keys[KEY] = replace(old)
    with pytest.raises(RecordForged):
        await shared.record().get()
    assert await shared.record(OTHER).create(Thing("bert"))
    assert Seals(lambda: [NEW]).unseal(await shared.stored(OTHER))
    shared.raw._keys[KEY] = old
    shared.now += KEYS_SECONDS * 0.2
    with pytest.raises(RecordForged):
        await shared.record().get()


async def test_a_lease_belongs_to_the_record(shared: SharedStore) -> None:
    """Without it a session would never expire."""
    key = keys.session("aa")
    lease = await shared.raw.lease_grant(60)
    assert await shared.record(key).create(Thing("s"), lease=lease)
    assert await shared.record(key).get() == Thing("s")
    kv = await shared.stored(key)
    with pytest.raises(RecordForged):
        Seals(lambda: [OLD]).unseal(replace(kv, lease=0))


async def test_a_creation_that_is_not_ended_is_nothing(shared: SharedStore) -> None:
    """A process that dies between the two writes leaves nothing that counts or blocks."""
    await shared.raw.put(KEY, RESERVED)
    assert await shared.record().get() is None
    assert await Records(shared.store, keys.USERS, Thing).all() == {}
    assert shared.store.refused() == ()
    assert await shared.record().create(Thing("anna"))
    assert await shared.record().get() == Thing("anna")


async def test_a_forged_record_is_not_in_the_way(shared: SharedStore) -> None:
    """A user that a thief has forged can be added again, or deleted."""
    await shared.raw.put(KEY, b"thief")
    assert await shared.record().create(Thing("anna"))
    assert await shared.record().get() == Thing("anna")
    await shared.raw.put(KEY, b"thief")
    assert await shared.record().delete()
    await shared.raw.put(KEY, b"thief")
    await shared.store.put(KEY, b'{"text":"b"}')
    assert await shared.record().get() == Thing("b")


async def test_guards_hold_as_ever(shared: SharedStore) -> None:
    """A creation whose guard fails leaves nothing, and failed branches still return."""
    put = Put(KEY, b'{"text":"a"}')
    result = await shared.store.txn([absent(KEY), present(FREE)], [put], [Get(KEY), Get(FREE)])
    assert not result.succeeded
    assert result.results == ((), ())
    assert await shared.raw.get(KEY) is None
    await shared.store.put(FREE, b"free")
    assert (await shared.raw.get(FREE) or KeyValue("", b"", 0, 0)).value == b"free"
    both: list[Action] = [put, Put(OTHER, b'{"text":"b"}'), Delete(FREE)]
    assert (await shared.store.txn([absent(KEY), absent(OTHER), present(FREE)], both)).succeeded
    assert await shared.raw.get(FREE) is None
    kv = await shared.store.get(KEY)
    assert kv is not None
    await shared.store.put(KEY, b'{"text":"c"}')
    again = await shared.store.txn([unchanged(kv)], [put], [Get(KEY)])
    assert not again.succeeded
    assert again.results[0][0].value == b'{"text":"c"}'
    gone = replace(kv, key=keys.user("nobody"))
    assert not (await shared.store.txn([unchanged(gone)], [Put(gone.key, b"{}")])).succeeded


async def test_what_cannot_be_sealed_is_an_error(shared: SharedStore) -> None:
    """An error of ours is detected at its source."""
    with pytest.raises(ValueError, match="value"):
        await shared.store.txn([value_is(KEY, b"x")], [])
    with pytest.raises(ValueError, match="failed"):
        await shared.store.txn([], [], [Put(KEY, b"x")])
    with pytest.raises(ValueError, match="JSON"):
        await shared.store.put(keys.PATRONI_CONFIG, b"[]")


async def test_what_patroni_reads_stays_json(shared: SharedStore) -> None:
    """Its configuration has the seal as a field; a member's record is bound to its name."""
    await shared.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    first = (await shared.stored(keys.PATRONI_CONFIG)).value
    assert set(msgspec.json.decode(first)) == {"ttl", FIELD}
    found = await shared.store.get(keys.PATRONI_CONFIG)
    assert found is not None
    assert msgspec.json.decode(found.value) == {"ttl": 20}
    await shared.raw.put(keys.PATRONI_CONFIG, first)
    with pytest.raises(RecordForged):
        await shared.store.get(keys.PATRONI_CONFIG)
    one, two = (keys.patroni_member(name) for name in ("a-1", "b-2"))
    await shared.store.put(one, b'{"conn_url": "postgres://a"}')
    told = (await shared.stored(one)).value
    await shared.raw.put(one, told)
    await shared.raw.put(two, told)
    assert [kv.key for kv in await shared.store.prefix(keys.PATRONI_MEMBERS)] == [one]


async def test_a_watch_shows_no_forged_change(shared: SharedStore) -> None:
    """Nor the reservation; later changes are seen."""
    seen: list[str] = []

    async def follow() -> None:
        async for events in shared.store.watch(keys.USERS, shared.raw.revision + 1):
            seen.extend(f"{e.type.value} {e.kv.key} {e.kv.value.decode()}" for e in events)
            if len(seen) == 2:
                return

    following = asyncio.create_task(follow())
    await shared.raw.put(OTHER, b"thief")
    await shared.record().create(Thing("a"))
    await shared.store.delete(OTHER)
    await following
    assert seen == [f'PUT {KEY} {{"text":"a"}}', f"DELETE {OTHER} "]


async def test_the_cluster_is_not_begun_anew_where_a_thief_deletes_it(shared: SharedStore) -> None:
    """The node's own copy replaces what is deleted or forged, and is restored."""
    record = shared.record(keys.CLUSTER)
    assert await record.create(Thing("three nodes"))
    for attack in (None, b"{}", (await shared.stored(keys.CLUSTER)).value):
        if attack is None:
            await shared.raw.delete(keys.CLUSTER)
        else:
            await shared.raw.put(keys.CLUSTER, attack)
        again = Record(shared.again(), keys.CLUSTER, Thing)
        assert await again.get() == Thing("three nodes")
        await shared.store.verify_all()
        assert shared.store.refused() == (keys.CLUSTER,)
        bare = SealedStore(shared.raw, Seals(lambda: [OLD]))
        assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("three nodes")
    await shared.raw.delete(keys.CLUSTER)
    await record.update(lambda _: Thing("changed"))
    assert await record.get() == Thing("changed")


async def test_what_is_kept_never_goes_back(shared: SharedStore) -> None:
    """A late answer, or a liar's, never replaces a newer value."""
    record = shared.record(keys.CLUSTER)
    await record.create(Thing("old"))
    old = await shared.stored(keys.CLUSTER)
    await record.update(lambda _: Thing("new"))
    liar = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liar, "get", _answer(old))
        lied_to = SealedStore(liar, Seals(lambda: [OLD]), shared.kept)
        assert await Record(lied_to, keys.CLUSTER, Thing).get() == Thing("old")
    await shared.raw.delete(keys.CLUSTER)
    assert await shared.store.repair(keys.CLUSTER)
    bare = SealedStore(shared.raw, Seals(lambda: [OLD]))
    assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("new")
    assert shared.store.refused() == (keys.CLUSTER,)


def _answer(kv: KeyValue) -> Callable[[str], Awaitable[KeyValue]]:
    async def get(key: str) -> KeyValue:
        assert key == kv.key
        return kv

    return get


async def test_a_forgery_is_noticed_that_is_put_right_at_once(shared: SharedStore) -> None:
    """Patroni repairs its configuration before anyone reads it; deletions are restored too."""
    await shared.record(keys.CLUSTER).create(Thing("three nodes"))
    await shared.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    patrolling = asyncio.create_task(shared.store.monitor())
    await asyncio.sleep(0.01)
    assert shared.store.refused() == ()
    await shared.raw.put(keys.PATRONI_CONFIG, b'{"ttl": 1}')
    await shared.again().put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    await asyncio.sleep(0.01)
    assert shared.store.refused() == (keys.PATRONI_CONFIG,)
    await shared.raw.delete(keys.CLUSTER)
    await asyncio.sleep(0.01)
    bare = SealedStore(shared.raw, Seals(lambda: [OLD]))
    assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("three nodes")
    assert shared.store.refused() == (keys.CLUSTER, keys.PATRONI_CONFIG)
    patrolling.cancel()


async def test_without_what_was_kept_a_forged_cluster_is_an_error(shared: SharedStore) -> None:
    """It is not overwritten either: the right value is unknown."""
    await shared.raw.put(keys.CLUSTER, b"{}")
    with pytest.raises(RecordForged):
        await shared.record(keys.CLUSTER).get()
    with pytest.raises(Fenced):
        await shared.record(keys.CLUSTER).create(Thing("first"))
    assert (await shared.stored(keys.CLUSTER)).value == b"{}"


async def test_a_renewal_takes_the_old_key_away(shared: SharedStore) -> None:
    """Records are sealed again; what the old key seals afterwards is forged."""
    await shared.record().create(Thing("anna"))
    await shared.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    shared.known[:] = [NEW, OLD]
    assert await shared.record().get() == Thing("anna")
    await shared.raw.put(OTHER, b"thief")
    for prefix in (*keys.SEALED, keys.PATRONI_CONFIG):
        await shared.store.reseal(prefix)
    after = shared.raw.revision
    await shared.store.reseal(keys.USERS)
    assert shared.raw.revision == after
    shared.known[:] = [NEW]
    assert await shared.record().get() == Thing("anna")
    assert await shared.store.get(keys.PATRONI_CONFIG) is not None
    assert (await shared.stored(OTHER)).value == b"thief"
    thief = SealedStore(shared.raw, Seals(lambda: [OLD]))
    await thief.put(OTHER, b'{"text":"thief"}')
    assert await shared.record(OTHER).read_valid() is None


async def test_what_is_told_is_bounded(shared: SharedStore) -> None:
    """A thief may forge ten thousand."""
    for number in range(MAX_REFUSED + 20):
        await shared.raw.put(f"{keys.USERS}{number:05}", b"thief")
    assert await shared.store.prefix(keys.USERS) == []
    assert len(shared.store.refused()) == MAX_REFUSED


class Forgetful(MemoryStore):
    """Loses the answers of writes after they were done, or all of them."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        result = await super().txn(compares, success, failure)
        if self.losses:
            self.losses -= 1
            raise OutcomeUnknown("lost")
        return result


async def test_a_lost_answer_to_the_reservation_is_cleared_up() -> None:
    """It may be retried; if that does not help, nothing valid was written."""
    raw = Forgetful(1)
    store = SealedStore(raw, Seals(lambda: [OLD]))
    assert await Record(store, KEY, Thing).create(Thing("anna"))
    raw.losses = 3
    with pytest.raises(StoreUnavailable, match="reserved"):
        await Record(store, OTHER, Thing).create(Thing("bert"))
    assert await Record(store, OTHER, Thing).get() is None


async def test_a_full_disk_of_the_node_makes_no_record_unreadable(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be stored now is stored at a later read."""
    record = shared.record(keys.CLUSTER)
    assert await record.create(Thing("one"))

    def full(key: str, good: GoodValue) -> None:
        raise OSError(errno.ENOSPC, f"{key} of {good.revision}")

    with monkeypatch.context() as patch:
        patch.setattr(shared.kept, "save", full)
        await record.update(lambda _: Thing("two"))
        assert await record.get() == Thing("two")
    assert shared.kept.value
    assert shared.kept.value.value == b'{"text":"one"}'
    assert await record.get() == Thing("two")
    assert shared.kept.value.value == b'{"text":"two"}'


async def test_who_creates_where_another_gives_up_is_not_refused(shared: SharedStore) -> None:
    """The first reserves the key, the other takes that over, the first releases it."""
    raw = shared.raw
    made: list[asyncio.Task[bool]] = []
    gone, reserved = asyncio.Event(), asyncio.Event()

    class First(MemoryStore):
        async def txn(self, *parts: Any) -> TxnResult:
            result = await raw.txn(*parts)
            if not made:
                made.append(asyncio.create_task(Record(other, KEY, Thing).create(Thing("other"))))
                await reserved.wait()
            return result

    class Second(MemoryStore):
        tries = 0

        async def txn(self, *parts: Any) -> TxnResult:
            self.tries += 1
            if self.tries == 2:
                reserved.set()
                await gone.wait()
            return await raw.txn(*parts)

        async def get(self, key: str) -> KeyValue | None:
            return await raw.get(key)

    other = SealedStore(Second(), Seals(lambda: shared.known))
    monkey = SealedStore(First(), Seals(lambda: shared.known))
    monkey._inner.get = raw.get  # type: ignore[method-assign]
    lost = await monkey.txn([absent(KEY), value_is(FREE, b"no")], [Put(KEY, b"first")])
    gone.set()
    assert not lost.succeeded
    assert await made[0]
    assert await shared.record().get() == Thing("other")


async def test_a_guard_that_fails_is_told_also_where_the_key_is_new(shared: SharedStore) -> None:
    """The reservation made for it, and released, is no change by another."""
    async with asyncio.timeout(5):
        result = await shared.store.txn([value_is(FREE, b"no")], [Put(KEY, b"new")])
    assert not result.succeeded
    assert await shared.raw.get(KEY) is None
