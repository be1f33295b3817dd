"""The behaviour of every store: the same tests run on the simulated one and on real etcds."""

import asyncio
from contextlib import aclosing

import pytest
from tests.support.waiting import until_async

from openvcha.store.errors import Compacted, LeaseNotFound, StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import (
    Compare,
    CompareTarget,
    Delete,
    Event,
    EventType,
    Get,
    Put,
    Relation,
    Store,
    absent,
    created_at,
    present,
    unchanged,
    value_is,
)
from openvcha.store.memory import MemoryStore

AnyStore = MemoryStore | Etcd


async def gather(store: Store, target: str, start: int, count: int) -> list[Event]:
    """Watch until ``count`` events have arrived."""
    seen: list[Event] = []
    async with asyncio.timeout(30), aclosing(store.watch(target, start)) as changes:
        async for events in changes:
            seen += events
            if len(seen) >= count:
                break
    return seen


async def test_put_and_get(store: AnyStore, root: str) -> None:
    """Any bytes are returned as written; revisions and version count writes."""
    value = bytes(range(256))
    first = await store.put(root + "ä", value)
    second = await store.put(root + "ä", b"")
    kv = await store.get(root + "ä")
    assert kv is not None
    assert (kv.value, kv.create_revision, kv.mod_revision, kv.version) == (b"", first, second, 2)
    assert await store.get(root + "none") is None


async def test_several_keys_are_read_at_once(store: AnyStore, root: str) -> None:
    """In the order given; a missing key is None, a repeated key is returned twice."""
    await store.put(f"{root}a", b"1")
    await store.put(f"{root}b", b"2")
    found = await store.get_many([f"{root}{name}" for name in "bcab"])
    assert [kv and kv.value for kv in found] == [b"2", None, b"1", b"2"]
    assert found[0] == await store.get(f"{root}b")


async def test_prefix(store: AnyStore, root: str) -> None:
    """All keys below a prefix are listed in order, and no others."""
    for name in ("b/2", "b/1", "a", "c", "b"):
        await store.put(root + name, name.encode())
    found = await store.prefix(root + "b/")
    assert [(kv.key, kv.value) for kv in found] == [(root + "b/1", b"b/1"), (root + "b/2", b"b/2")]
    bare = await store.prefix(root + "b/", keys_only=True)
    assert [kv.value for kv in bare] == [b"", b""]
    assert await store.prefix(root + "z") == []


async def test_snapshot_revision_is_the_stores(store: AnyStore, root: str) -> None:
    """A snapshot's revision is that of the last write to any key."""
    await store.put(root + "a", b"")
    last = await store.put("/test/elsewhere", b"")
    snapshot = await store.snapshot(root)
    assert snapshot.revision == last
    assert [kv.key for kv in snapshot.items] == [root + "a"]


async def test_delete(store: AnyStore, root: str) -> None:
    """A delete returns what was there."""
    await store.put(root + "a", b"")
    await store.put(root + "ab", b"")
    assert await store.delete(root + "a")
    assert not await store.delete(root + "a")
    assert await store.delete_prefix(root) == 1
    assert await store.prefix(root) == []


async def test_txn_branches(store: AnyStore, root: str) -> None:
    """Exactly one branch runs, at one revision, and reads see the writes before them."""
    key = root + "a"
    made = await store.txn([absent(key)], [Put(key, b"1"), Put(root + "b", b"2"), Get(key)])
    assert made.succeeded
    assert made.results[2][0].value == b"1"
    assert {kv.mod_revision for kv in await store.prefix(root)} == {made.revision}
    again = await store.txn([absent(key)], [Put(key, b"3")], [Get(key), Get(root, prefix=True)])
    assert not again.succeeded
    assert again.results[0][0].value == b"1"
    assert len(again.results[1]) == 2
    gone = await store.txn([], [Delete(root, prefix=True), Get(root, prefix=True)])
    assert gone.results == ((), ())


async def test_conditions(store: AnyStore, root: str) -> None:
    """Each kind of condition holds when it should and only then."""
    key, none = root + "a", root + "none"
    await store.put(key, b"0")
    await store.put(key, b"m")
    kv = await store.get(key)
    assert kv is not None
    holding = [
        present(key),
        absent(none),
        unchanged(kv),
        value_is(key, b"m"),
        created_at(key, kv.create_revision),
        Compare(key, CompareTarget.VERSION, 2),
        Compare(key, CompareTarget.LEASE, 0),
        Compare(key, CompareTarget.VALUE, b"n", Relation.LESS),
        Compare(key, CompareTarget.MOD, kv.create_revision, Relation.GREATER),
        Compare(none, CompareTarget.VERSION, 0),
    ]
    failing = [
        absent(key),
        present(none),
        value_is(key, b"x"),
        value_is(none, b""),
        Compare(none, CompareTarget.VALUE, b"x", Relation.NOT_EQUAL),
        created_at(key, kv.mod_revision),
        Compare(key, CompareTarget.VALUE, b"m", Relation.NOT_EQUAL),
        Compare(key, CompareTarget.MOD, kv.mod_revision, Relation.LESS),
    ]
    for condition in holding:
        assert (await store.txn([condition], [])).succeeded, condition
    for condition in failing:
        assert not (await store.txn([condition], [])).succeeded, condition
    await store.put(key, b"m")
    assert not (await store.txn([unchanged(kv)], [])).succeeded


@pytest.mark.parametrize(
    "actions",
    [
        [Put("/test/k", b"1"), Put("/test/k", b"2")],
        [Put("/test/k", b"1"), Delete("/test/k")],
        [Delete("/test/", prefix=True), Put("/test/k", b"1")],
        [Put(f"/test/{number}", b"") for number in range(129)],
    ],
)
async def test_txn_refuses(store: AnyStore, actions: list[Put | Delete]) -> None:
    """A branch that writes a key twice, or is too long, is refused and does nothing."""
    with pytest.raises(StoreError):
        await store.txn([], actions)
    assert await store.get("/test/k") is None
    assert await store.get("/test/1") is None


async def test_lease_expiry_frees_its_keys(store: AnyStore, root: str) -> None:
    """A key is deleted, with an event, when its lease expires."""
    lease = await store.lease_grant(1)
    made = await store.put(root + "a", b"", lease)
    kv = await store.get(root + "a")
    assert kv is not None
    assert kv.lease == lease
    put, gone = await gather(store, root, made, 2)
    assert (put.type, gone.type, gone.kv.key) == (EventType.PUT, EventType.DELETE, root + "a")
    assert await store.get(root + "a") is None
    with pytest.raises(LeaseNotFound):
        await store.lease_keep_alive(lease)
    with pytest.raises(LeaseNotFound):
        await store.put(root + "a", b"", lease)


async def test_lease_remaining(store: AnyStore, root: str) -> None:
    """Rounded down: whoever relies on it must not rely on too much; renewing begins anew."""
    lease = await store.lease_grant(60)
    assert 50 <= await store.lease_remaining(lease) <= 60
    short = await store.lease_grant(2)
    await store.put(root + "a", b"", short)
    seen = {await store.lease_remaining(short)}

    async def has_ended() -> bool:
        try:
            seen.add(await store.lease_remaining(short))
        except LeaseNotFound:
            return True
        return False

    await until_async(has_ended, 30, pause=0.05)
    assert max(seen) <= 2
    assert 0 in seen
    await store.lease_keep_alive(lease)
    assert await store.lease_remaining(lease) >= 50


async def test_lease_revoke(store: AnyStore, root: str) -> None:
    """Revoking deletes the lease's keys at once; a key rewritten without it stays."""
    lease = await store.lease_grant(60)
    assert await store.lease_keep_alive(lease) == 60
    await store.put(root + "goes", b"", lease)
    await store.put(root + "stays", b"", lease)
    await store.put(root + "stays", b"")
    await store.lease_revoke(lease)
    assert [kv.key for kv in await store.prefix(root)] == [root + "stays"]
    with pytest.raises(LeaseNotFound):
        await store.lease_revoke(lease)


async def test_watch_from_a_revision(store: AnyStore, root: str) -> None:
    """A watch from a revision delivers everything: changes before it began, then the rest."""
    start = (await store.snapshot(root)).revision + 1
    for number in range(5):
        await store.put(f"{root}{number}", b"x")
    await store.delete(root + "0")
    watching = asyncio.create_task(gather(store, root, start, 7))
    await store.put("/test/elsewhere", b"")
    await store.put(root + "late", b"y")
    events = await watching
    assert [event.kv.key.removeprefix(root) for event in events] == [*"01234", "0", "late"]
    revisions = [event.kv.mod_revision for event in events]
    assert revisions == sorted(set(revisions))
    assert events[5].type is EventType.DELETE
    assert events[6].kv.value == b"y"


async def test_watch_of_one_key(store: AnyStore, root: str) -> None:
    """Without a trailing slash only the key itself is watched."""
    start = await store.put(root + "ab", b"")
    await store.put(root + "a", b"1")
    await store.put(root + "a/b", b"")
    await store.put(root + "a", b"2")
    events = await gather(store, root + "a", start, 2)
    assert [event.kv.value for event in events] == [b"1", b"2"]


async def test_watch_gives_a_transaction_whole(store: AnyStore, root: str) -> None:
    """All changes of one transaction arrive together."""
    result = await store.txn([], [Put(root + name, b"") for name in "abc"])
    async with aclosing(store.watch(root, result.revision)) as changes:
        events = await anext(changes)
    assert [event.kv.key for event in events] == [root + name for name in "abc"]


async def test_watch_from_now(store: AnyStore, root: str) -> None:
    """Revision 0 means now: no earlier change is delivered, every later one is."""
    await store.put(root + "before", b"")
    async with asyncio.timeout(30), aclosing(store.watch(root)) as changes:
        first = asyncio.ensure_future(anext(changes))
        while not first.done():
            await store.put(root + "after", b"")
            await asyncio.wait([first], timeout=0.01)
    assert {event.kv.key for event in first.result()} == {root + "after"}


async def test_watch_says_compacted(store: AnyStore, root: str) -> None:
    """A watch from a compacted revision fails, and never silently begins later."""
    old = await store.put(root + "a", b"1")
    new = await store.put(root + "a", b"2")
    await store.compact(new)
    with pytest.raises(Compacted) as caught:
        await gather(store, root, old, 1)
    assert caught.value.revision == new
    assert [event.kv.value for event in await gather(store, root, new, 1)] == [b"2"]
