"""Sealed records: what no data node wrote, in this form under this key, is refused."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.support.simulated.sealed_store import KEY, NEW, OLD, Stage, Thing

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
def stage() -> Stage:
    return Stage()


async def test_it_looks_like_any_store(stage: Stage) -> None:
    """Created, read, changed, listed, deleted; callers see nothing of the seal."""
    record = stage.record()
    assert await record.get() is None
    assert await record.create(Thing("one"))
    assert not await record.create(Thing("another"))
    assert await record.get() == Thing("one")
    await record.update(lambda _: Thing("two"))
    assert await Record(stage.again(), KEY, Thing).get() == Thing("two")
    assert await Records(stage.store, keys.USERS, Thing).all() == {KEY: Thing("two")}
    assert b"openvcha-seal" in (await stage.stored()).value
    assert await record.delete()
    assert await stage.raw.get(KEY) is None
    assert stage.store.refused() == ()


async def test_many_at_once_lose_nothing(stage: Stage) -> None:
    """Of concurrent creations one wins; no change is lost; also from several processes."""
    stores = [stage.again() for _ in range(6)]
    made = await asyncio.gather(*(Record(s, KEY, Thing).create(Thing("")) for s in stores))
    assert sorted(made) == [False] * 5 + [True]

    def longer(thing: Thing) -> Thing:
        return Thing(thing.text + "x")

    await asyncio.gather(*(Record(s, KEY, Thing).update(longer) for s in stores))
    assert await stage.record().get() == Thing("x" * 6)
    await asyncio.gather(*(s.put(OTHER, b'{"text":"p"}') for s in stores))
    assert await stage.record(OTHER).get() == Thing("p")


async def test_what_a_thief_makes_up_is_refused_and_told(stage: Stage) -> None:
    """Even what looks like a seal; the other records are read as ever."""
    await stage.record().create(Thing("anna"))
    sealed = (await stage.stored()).value
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
        await stage.raw.put(OTHER, made_up)
        with pytest.raises(RecordForged, match="bert"):
            await stage.store.get(OTHER)
        assert await stage.record(OTHER).read_valid() is None
        assert await Records(stage.store, keys.USERS, Thing).all() == {KEY: Thing("anna")}
        assert [kv.key for kv in (await stage.store.snapshot(keys.USERS)).items] == [KEY]
        found = await stage.store.txn([], [Get(OTHER), Get(KEY)])
        assert [len(kvs) for kvs in found.results] == [0, 1]
        assert stage.store.refused() == (OTHER,)
    stage.now = REMEMBERED_SECONDS + 1
    assert stage.store.refused() == ()


async def test_several_are_checked_one_by_one(stage: Stage) -> None:
    """A forged one is missing and reported, a good one counts, the cluster is the kept one."""
    for key in (KEY, OTHER, keys.CLUSTER):
        await stage.store.put(key, b'{"text":"good"}')
    await stage.store.get(keys.CLUSTER)
    for key in (KEY, keys.CLUSTER):
        await stage.raw.put(key, b'{"text":"forged"}')
    await stage.raw.put(FREE, b"free")
    names = [KEY, OTHER, keys.CLUSTER, FREE, keys.user("nobody")]
    found = await stage.store.get_many(names)
    good = b'{"text":"good"}'
    assert [kv and kv.value for kv in found] == [None, good, good, b"free", None]
    assert stage.store.refused() == (keys.CLUSTER, KEY)


async def test_an_old_value_does_not_come_back(stage: Stage) -> None:
    """Neither written over the new one, nor deleted and restored, nor after a deletion."""
    record = stage.record()
    await record.create(Thing("old password"))
    old = (await stage.stored()).value
    await record.update(lambda _: Thing("new password"))
    new = (await stage.stored()).value
    for value in (old, new):
        await stage.raw.put(KEY, value)
        assert await record.read_valid() is None
    await stage.raw.delete(KEY)
    for _ in range(4):
        for value in (old, new):
            await stage.raw.put(KEY, value)
            assert await record.read_valid() is None
    await stage.raw.delete(KEY)
    await stage.raw.put(OTHER, new)
    assert await stage.record(OTHER).read_valid() is None


async def test_a_seal_is_for_one_place(stage: Stage) -> None:
    """Its key, its creation and its version: a difference in any one makes the seal invalid."""
    await stage.record().create(Thing("anna"))
    kv, seals = await stage.stored(), Seals(lambda: [OLD])
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
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a mirror returns it again or the store; a forged record is refused each time."""
    await stage.record().create(Thing("anna"))
    checked: list[str] = []
    original = Seals.unseal

    def counted(seals: Seals, kv: KeyValue) -> bytes:
        checked.append(kv.key)
        return original(seals, kv)

    monkeypatch.setattr(Seals, "unseal", counted)
    for _ in range(3):
        assert await stage.record().get() == Thing("anna")
    assert checked == [KEY]
    kv = await stage.stored()
    stage.raw._keys[KEY] = replace(kv)
    assert await stage.record().get() == Thing("anna")
    assert checked == [KEY]
    for moved in (
        replace(kv, create_revision=kv.create_revision + 1),
        replace(kv, version=kv.version + 1),
        replace(kv, lease=7),
        replace(kv, value=kv.value + b" "),
    ):
        stage.raw._keys[KEY] = moved
        with pytest.raises(RecordForged):
            await stage.record().get()
    stage.raw._keys[KEY] = kv
    checked.clear()
    assert await stage.record().get() == Thing("anna")
    stage.known = [NEW]
    stage.now += KEYS_SECONDS
    for _ in range(2):
        with pytest.raises(RecordForged):
            await stage.record().get()
    assert checked == [KEY] * 2


async def test_a_key_that_is_taken_away_counts_for_a_moment_and_for_old_records_only(
    stage: Stage,
) -> None:
    """New records are checked with the current keys, and sealed with them."""
    await stage.record().create(Thing("anna"))
    assert await stage.record().get() == Thing("anna")
    old = await stage.stored()
    stage.known = [NEW]
    stage.now += KEYS_SECONDS * 0.9
    assert await stage.record().get() == Thing("anna")
    stage.raw._keys[KEY] = replace(old)
    with pytest.raises(RecordForged):
        await stage.record().get()
    assert await stage.record(OTHER).create(Thing("bert"))
    assert Seals(lambda: [NEW]).unseal(await stage.stored(OTHER))
    stage.raw._keys[KEY] = old
    stage.now += KEYS_SECONDS * 0.2
    with pytest.raises(RecordForged):
        await stage.record().get()


async def test_a_lease_belongs_to_the_record(stage: Stage) -> None:
    """Without it a session would never expire."""
    key = keys.session("aa")
    lease = await stage.raw.lease_grant(60)
    assert await stage.record(key).create(Thing("s"), lease=lease)
    assert await stage.record(key).get() == Thing("s")
    kv = await stage.stored(key)
    with pytest.raises(RecordForged):
        Seals(lambda: [OLD]).unseal(replace(kv, lease=0))


async def test_a_creation_that_is_not_ended_is_nothing(stage: Stage) -> None:
    """A process that dies between the two writes leaves nothing that counts or blocks."""
    await stage.raw.put(KEY, RESERVED)
    assert await stage.record().get() is None
    assert await Records(stage.store, keys.USERS, Thing).all() == {}
    assert stage.store.refused() == ()
    assert await stage.record().create(Thing("anna"))
    assert await stage.record().get() == Thing("anna")


async def test_a_forged_record_is_not_in_the_way(stage: Stage) -> None:
    """A user that a thief has forged can be added again, or deleted."""
    await stage.raw.put(KEY, b"thief")
    assert await stage.record().create(Thing("anna"))
    assert await stage.record().get() == Thing("anna")
    await stage.raw.put(KEY, b"thief")
    assert await stage.record().delete()
    await stage.raw.put(KEY, b"thief")
    await stage.store.put(KEY, b'{"text":"b"}')
    assert await stage.record().get() == Thing("b")


async def test_guards_hold_as_ever(stage: Stage) -> None:
    """A creation whose guard fails leaves nothing, and failed branches still return."""
    put = Put(KEY, b'{"text":"a"}')
    result = await stage.store.txn([absent(KEY), present(FREE)], [put], [Get(KEY), Get(FREE)])
    assert not result.succeeded
    assert result.results == ((), ())
    assert await stage.raw.get(KEY) is None
    await stage.store.put(FREE, b"free")
    assert (await stage.raw.get(FREE) or KeyValue("", b"", 0, 0)).value == b"free"
    both: list[Action] = [put, Put(OTHER, b'{"text":"b"}'), Delete(FREE)]
    assert (await stage.store.txn([absent(KEY), absent(OTHER), present(FREE)], both)).succeeded
    assert await stage.raw.get(FREE) is None
    kv = await stage.store.get(KEY)
    assert kv is not None
    await stage.store.put(KEY, b'{"text":"c"}')
    again = await stage.store.txn([unchanged(kv)], [put], [Get(KEY)])
    assert not again.succeeded
    assert again.results[0][0].value == b'{"text":"c"}'
    gone = replace(kv, key=keys.user("nobody"))
    assert not (await stage.store.txn([unchanged(gone)], [Put(gone.key, b"{}")])).succeeded


async def test_what_cannot_be_sealed_is_an_error(stage: Stage) -> None:
    """An error of ours is detected at its source."""
    with pytest.raises(ValueError, match="value"):
        await stage.store.txn([value_is(KEY, b"x")], [])
    with pytest.raises(ValueError, match="failed"):
        await stage.store.txn([], [], [Put(KEY, b"x")])
    with pytest.raises(ValueError, match="JSON"):
        await stage.store.put(keys.PATRONI_CONFIG, b"[]")


async def test_what_patroni_reads_stays_json(stage: Stage) -> None:
    """Its configuration has the seal as a field; a member's record is bound to its name."""
    await stage.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    first = (await stage.stored(keys.PATRONI_CONFIG)).value
    assert set(msgspec.json.decode(first)) == {"ttl", FIELD}
    found = await stage.store.get(keys.PATRONI_CONFIG)
    assert found is not None
    assert msgspec.json.decode(found.value) == {"ttl": 20}
    await stage.raw.put(keys.PATRONI_CONFIG, first)
    with pytest.raises(RecordForged):
        await stage.store.get(keys.PATRONI_CONFIG)
    one, two = (keys.patroni_member(name) for name in ("a-1", "b-2"))
    await stage.store.put(one, b'{"conn_url": "postgres://a"}')
    told = (await stage.stored(one)).value
    await stage.raw.put(one, told)
    await stage.raw.put(two, told)
    assert [kv.key for kv in await stage.store.prefix(keys.PATRONI_MEMBERS)] == [one]


async def test_a_watch_shows_no_forged_change(stage: Stage) -> None:
    """Nor the reservation; later changes are seen."""
    seen: list[str] = []

    async def follow() -> None:
        async for events in stage.store.watch(keys.USERS, stage.raw.revision + 1):
            seen.extend(f"{e.type.value} {e.kv.key} {e.kv.value.decode()}" for e in events)
            if len(seen) == 2:
                return

    following = asyncio.create_task(follow())
    await stage.raw.put(OTHER, b"thief")
    await stage.record().create(Thing("a"))
    await stage.store.delete(OTHER)
    await following
    assert seen == [f'PUT {KEY} {{"text":"a"}}', f"DELETE {OTHER} "]


async def test_the_cluster_is_not_begun_anew_where_a_thief_deletes_it(stage: Stage) -> None:
    """The node's own copy replaces what is deleted or forged, and is restored."""
    record = stage.record(keys.CLUSTER)
    assert await record.create(Thing("three nodes"))
    for attack in (None, b"{}", (await stage.stored(keys.CLUSTER)).value):
        if attack is None:
            await stage.raw.delete(keys.CLUSTER)
        else:
            await stage.raw.put(keys.CLUSTER, attack)
        again = Record(stage.again(), keys.CLUSTER, Thing)
        assert await again.get() == Thing("three nodes")
        await stage.store.verify_all()
        assert stage.store.refused() == (keys.CLUSTER,)
        bare = SealedStore(stage.raw, Seals(lambda: [OLD]))
        assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("three nodes")
    await stage.raw.delete(keys.CLUSTER)
    await record.update(lambda _: Thing("changed"))
    assert await record.get() == Thing("changed")


async def test_what_is_kept_never_goes_back(stage: Stage) -> None:
    """A late answer, or a liar's, never replaces a newer value."""
    record = stage.record(keys.CLUSTER)
    await record.create(Thing("old"))
    old = await stage.stored(keys.CLUSTER)
    await record.update(lambda _: Thing("new"))
    liar = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liar, "get", _answer(old))
        lied_to = SealedStore(liar, Seals(lambda: [OLD]), stage.kept)
        assert await Record(lied_to, keys.CLUSTER, Thing).get() == Thing("old")
    await stage.raw.delete(keys.CLUSTER)
    assert await stage.store.repair(keys.CLUSTER)
    bare = SealedStore(stage.raw, Seals(lambda: [OLD]))
    assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("new")
    assert stage.store.refused() == (keys.CLUSTER,)


def _answer(kv: KeyValue) -> Callable[[str], Awaitable[KeyValue]]:
    async def get(key: str) -> KeyValue:
        assert key == kv.key
        return kv

    return get


async def test_a_forgery_is_noticed_that_is_put_right_at_once(stage: Stage) -> None:
    """Patroni repairs its configuration before anyone reads it; deletions are restored too."""
    await stage.record(keys.CLUSTER).create(Thing("three nodes"))
    await stage.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    patrolling = asyncio.create_task(stage.store.monitor())
    await asyncio.sleep(0.01)
    assert stage.store.refused() == ()
    await stage.raw.put(keys.PATRONI_CONFIG, b'{"ttl": 1}')
    await stage.again().put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    await asyncio.sleep(0.01)
    assert stage.store.refused() == (keys.PATRONI_CONFIG,)
    await stage.raw.delete(keys.CLUSTER)
    await asyncio.sleep(0.01)
    bare = SealedStore(stage.raw, Seals(lambda: [OLD]))
    assert await Record(bare, keys.CLUSTER, Thing).get() == Thing("three nodes")
    assert stage.store.refused() == (keys.CLUSTER, keys.PATRONI_CONFIG)
    patrolling.cancel()


async def test_without_what_was_kept_a_forged_cluster_is_an_error(stage: Stage) -> None:
    """It is not overwritten either: the right value is unknown."""
    await stage.raw.put(keys.CLUSTER, b"{}")
    with pytest.raises(RecordForged):
        await stage.record(keys.CLUSTER).get()
    with pytest.raises(Fenced):
        await stage.record(keys.CLUSTER).create(Thing("first"))
    assert (await stage.stored(keys.CLUSTER)).value == b"{}"


async def test_a_renewal_takes_the_old_key_away(stage: Stage) -> None:
    """Records are sealed again; what the old key seals afterwards is forged."""
    await stage.record().create(Thing("anna"))
    await stage.store.put(keys.PATRONI_CONFIG, b'{"ttl": 20}')
    stage.known[:] = [NEW, OLD]
    assert await stage.record().get() == Thing("anna")
    await stage.raw.put(OTHER, b"thief")
    for prefix in (*keys.SEALED, keys.PATRONI_CONFIG):
        await stage.store.reseal(prefix)
    after = stage.raw.revision
    await stage.store.reseal(keys.USERS)
    assert stage.raw.revision == after
    stage.known[:] = [NEW]
    assert await stage.record().get() == Thing("anna")
    assert await stage.store.get(keys.PATRONI_CONFIG) is not None
    assert (await stage.stored(OTHER)).value == b"thief"
    thief = SealedStore(stage.raw, Seals(lambda: [OLD]))
    await thief.put(OTHER, b'{"text":"thief"}')
    assert await stage.record(OTHER).read_valid() is None


async def test_what_is_told_is_bounded(stage: Stage) -> None:
    """A thief may forge ten thousand."""
    for number in range(MAX_REFUSED + 20):
        await stage.raw.put(f"{keys.USERS}{number:05}", b"thief")
    assert await stage.store.prefix(keys.USERS) == []
    assert len(stage.store.refused()) == MAX_REFUSED


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
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be stored now is stored at a later read."""
    record = stage.record(keys.CLUSTER)
    assert await record.create(Thing("one"))

    def full(key: str, good: GoodValue) -> None:
        raise OSError(errno.ENOSPC, f"{key} of {good.revision}")

    with monkeypatch.context() as patch:
        patch.setattr(stage.kept, "save", full)
        await record.update(lambda _: Thing("two"))
        assert await record.get() == Thing("two")
    assert stage.kept.value
    assert stage.kept.value.value == b'{"text":"one"}'
    assert await record.get() == Thing("two")
    assert stage.kept.value.value == b'{"text":"two"}'


async def test_who_creates_where_another_gives_up_is_not_refused(stage: Stage) -> None:
    """The first reserves the key, the other takes that over, the first releases it."""
    raw, other = stage.raw, stage.again()
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

    monkey = SealedStore(First(), Seals(lambda: stage.known))
    monkey._inner.get = raw.get  # type: ignore[method-assign]
    other._inner = Second()
    lost = await monkey.txn([absent(KEY), value_is(FREE, b"no")], [Put(KEY, b"first")])
    gone.set()
    assert not lost.succeeded
    assert await made[0]
    assert await stage.record().get() == Thing("other")


async def test_a_guard_that_fails_is_told_also_where_the_key_is_new(stage: Stage) -> None:
    """The reservation made for it, and released, is no change by another."""
    async with asyncio.timeout(5):
        result = await stage.store.txn([value_is(FREE, b"no")], [Put(KEY, b"new")])
    assert not result.succeeded
    assert await stage.raw.get(KEY) is None
