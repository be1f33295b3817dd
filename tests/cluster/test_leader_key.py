"""Who leads next: only the node that has every acknowledged write."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from openvcha.cluster import leader_key
from openvcha.node.patroni.patches.key_forms import is_formed
from openvcha.store import keys
from openvcha.store.errors import RecordInvalid
from openvcha.store.interface import Compare, absent, present, unchanged
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.state import parse_sync

GUARD = absent("/somebody-else-has-taken-over")
MEMBER = keys.patroni_member("b")

Move = Callable[[MemoryStore, Compare, str, str], Awaitable[bool]]
MOVES = pytest.mark.parametrize("move", [leader_key.request_switchover, leader_key.transfer])


async def world(leader: str = "a", sync: str = "a", standby: str | None = "b") -> MemoryStore:
    store = MemoryStore()
    value = json.dumps({"leader": sync, "sync_standby": standby}).encode()
    await store.put(keys.PATRONI_LEADER, leader.encode(), await store.lease_grant(20))
    await store.put(keys.PATRONI_SYNC, value)
    await store.put(MEMBER, b"{}", await store.lease_grant(20))
    return store


async def text(store: MemoryStore, key: str) -> str | None:
    found = await store.get(key)
    return found.value.decode() if found else None


async def test_patroni_is_asked_in_its_own_words() -> None:
    """As its REST interface writes them."""
    store = await world()
    assert not await leader_key.is_pending(store)
    assert await leader_key.request_switchover(store, GUARD, "a", "b")
    assert json.loads(await text(store, keys.PATRONI_FAILOVER) or "") == {
        "leader": "a",
        "member": "b",
    }
    assert await leader_key.is_pending(store)
    assert await text(store, keys.PATRONI_LEADER) == "a"


async def test_a_wish_that_is_there_stays() -> None:
    """A person may have requested it with patronictl."""
    store = await world()
    await store.put(keys.PATRONI_FAILOVER, b'{"leader":"a","member":"c"}')
    assert not await leader_key.request_switchover(store, GUARD, "a", "b")
    await leader_key.withdraw_request(store, GUARD, "a", "b")
    assert await text(store, keys.PATRONI_FAILOVER) == '{"leader":"a","member":"c"}'


async def test_a_wish_that_was_emptied_may_be_made_again_and_taken_back() -> None:
    """Patroni empties the key, refused or done."""
    store = await world()
    await store.put(keys.PATRONI_FAILOVER, b"{}")
    assert await leader_key.request_switchover(store, GUARD, "a", "b")
    await leader_key.withdraw_request(store, GUARD, "a", "b")
    assert not await leader_key.is_pending(store)
    await leader_key.withdraw_request(store, GUARD, "a", "b")


@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        b"[" * 100,
        b'{"leader":"a","scheduled_at":"9999-99-99"}',
        b'{"leader":"a","scheduled_at":"2126-11-27T09:00:00+00:00"}',
        b'{"leader":["a"],"member":"c"}',
        b'{"leader":"a","member":"\\u001b[2J"}',
    ],
)
async def test_what_patroni_is_not_shown_is_in_nobody_s_way(value: bytes) -> None:
    """It would never go away by itself, and no operation could request a failover any more.

    Only code that would start a primary because of it needs stricter checks.
    """
    store = await world()
    await store.put(keys.PATRONI_FAILOVER, value)
    assert not is_formed("failover", value.decode(errors="replace"))
    assert not await leader_key.is_requested(store)
    with pytest.raises(RecordInvalid):
        await leader_key.is_pending(store)
    assert not await leader_key.drop_stale_request(store)
    assert await leader_key.request_switchover(store, GUARD, "a", "b")
    assert await leader_key.is_pending(store)


async def test_the_key_is_handed_over_with_the_right_to_keep_it() -> None:
    """It lives as long as the new leader's Patroni; no other node can write ``/sync`` meanwhile."""
    store = await world()
    await store.put(keys.PATRONI_FAILOVER, b'{"leader":"a","member":"b"}')
    before, read = store.revision, await store.get(keys.PATRONI_SYNC)
    assert read
    assert await leader_key.transfer(store, GUARD, "a", "b")
    assert store.revision == before + 1, "more than one transaction"
    leader, member = await store.get(keys.PATRONI_LEADER), await store.get(MEMBER)
    assert leader
    assert member
    assert (leader.value, leader.lease) == (b"b", member.lease)
    assert await text(store, keys.PATRONI_SYNC) == read.value.decode()
    assert not (await store.txn([unchanged(read)], [])).succeeded, "the former one may let it go"
    assert await store.get(keys.PATRONI_FAILOVER) is None


@pytest.mark.looptime
async def test_a_new_leader_that_dies_before_it_begins_leaves_the_former_one_its_right() -> None:
    """``/sync`` still names it: otherwise no node might ever lead."""
    store = await world()
    assert await leader_key.transfer(store, GUARD, "a", "b")
    await asyncio.sleep(30)
    assert await text(store, keys.PATRONI_LEADER) is None
    assert parse_sync((await text(store, keys.PATRONI_SYNC) or "").encode()).leader == "a"


async def test_the_key_is_given_back_where_the_new_leader_does_not_begin() -> None:
    """And the new leader can no longer act on what it read before."""
    store = await world()
    await leader_key.undo_transfer(store, GUARD, "a", "b")
    assert await text(store, keys.PATRONI_LEADER) == "a"
    assert await leader_key.transfer(store, GUARD, "a", "b")
    read = await store.get(keys.PATRONI_SYNC)
    assert read
    await leader_key.undo_transfer(store, present("/still-mine"), "a", "b")
    assert await text(store, keys.PATRONI_LEADER) == "b"
    await leader_key.undo_transfer(store, GUARD, "a", "b")
    assert await text(store, keys.PATRONI_LEADER) is None
    assert not (await store.txn([unchanged(read)], [])).succeeded


async def test_who_has_begun_to_lead_keeps_the_key() -> None:
    """Patroni writes it to ``/sync`` right before PostgreSQL becomes a primary."""
    store = await world()
    assert await leader_key.transfer(store, GUARD, "a", "b")
    await store.put(keys.PATRONI_SYNC, b'{"leader":"b","sync_standby":null}')
    await leader_key.undo_transfer(store, GUARD, "a", "b")
    assert await text(store, keys.PATRONI_LEADER) == "b"


@pytest.mark.parametrize(
    ("wish", "leads", "lives", "dropped"),
    [
        (b'{"leader":"a","member":"b"}', False, False, True),
        (b'{"member":"b"}', False, False, True),
        (b'{"member":"b"}', False, True, False),
        (b'{"member":"b"}', True, False, False),
        (b'{"leader":"a"}', False, False, False),
        (b"{}", False, False, False),
        (None, False, False, False),
    ],
)
async def test_a_wish_for_a_member_that_shows_no_life_is_dropped(
    wish: bytes | None, leads: bool, lives: bool, dropped: bool
) -> None:
    """Only without a leader: a leader's Patroni judges it itself."""
    store = await world()
    if not leads:
        await store.delete(keys.PATRONI_LEADER)
    if not lives:
        await store.delete(MEMBER)
    if wish is not None:
        await store.put(keys.PATRONI_FAILOVER, wish)
    assert await leader_key.drop_stale_request(store) is dropped
    left = await store.get(keys.PATRONI_FAILOVER)
    assert (left.value if left else None) == (None if dropped else wish)


@MOVES
@pytest.mark.parametrize(
    ("leader", "sync", "standby"),
    [("c", "a", "b"), ("a", "c", "b"), ("a", "a", None), ("a", "a", "c"), ("b", "a", "b")],
)
async def test_never_to_a_node_that_may_lack_a_write(
    move: Move, leader: str, sync: str, standby: str | None
) -> None:
    """Another leads, or ``/sync`` names another leader or standby."""
    store = await world(leader, sync, standby)
    before = store.revision
    assert not await move(store, GUARD, "a", "b")
    assert store.revision == before


@MOVES
async def test_who_was_superseded_changes_nothing(move: Move) -> None:
    """A task's runner that was replaced."""
    store = await world()
    before = store.revision
    assert not await move(store, present("/still-mine"), "a", "b")
    assert store.revision == before


async def test_never_to_a_node_that_shows_no_life() -> None:
    """It could not take the key over."""
    store = await world()
    await store.delete(MEMBER)
    assert not await leader_key.transfer(store, GUARD, "a", "b")
    assert await text(store, keys.PATRONI_LEADER) == "a"


class Changing(MemoryStore):
    """Simulated: another writer changes a key between look and transaction."""

    key = ""

    async def txn(self, *arguments: object) -> object:  # type: ignore[override]  # passed on as it is
        key, self.key = self.key, ""
        if key:
            found = await self.get(key)
            await self.put(key, found.value if found else b"")
        return await super().txn(*arguments)  # type: ignore[arg-type]  # see above


@MOVES
async def test_what_changes_after_the_look_is_seen(move: Move) -> None:
    """The conditions are part of the transaction."""
    store = Changing()
    source = await world()
    for kv in await source.prefix("/"):
        lease = await store.lease_grant(20) if kv.lease else 0
        await store.put(kv.key, kv.value, lease)
    store.key = keys.PATRONI_SYNC
    assert not await move(store, GUARD, "a", "b")
