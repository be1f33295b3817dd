"""Freeing space in the store: by one data node at a time, and only when it is safe."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.roomy import StoreWithMembers, simulated

from openvcha.node.background.space_keeper import (
    FUTILE_SECONDS,
    POLL_SECONDS,
    TURN_SECONDS,
    SpaceKeeper,
    keep_space,
)
from openvcha.node.identity import StoreLimits
from openvcha.store import keys
from openvcha.store.errors import StoreFull
from openvcha.store.interface import TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.system.files.locks import try_lock

pytestmark = pytest.mark.looptime
QUOTA = 1000
RUN = Path()


class Store(StoreWithMembers):
    """Keys in memory, and simulated members; a full one accepts no puts."""

    async def lease_grant(self, ttl: int) -> int:
        if await self.simulated.members_without_space():
            raise StoreFull("etcdserver: mvcc: database space exceeded")
        return await super().lease_grant(ttl)

    async def txn(self, *arguments: Any) -> TxnResult:
        return await super().txn(*arguments)


class Events:
    """Accepts log events."""

    def info(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    warning = info


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a directory for the locks of the nodes."""
    monkeypatch.setattr(sys.modules[__name__], "RUN", tmp_path)


def view(store: Store, member: str = "a", *, holds_data: bool = True) -> Any:
    notes: dict[str, str | None] = {}
    identity = SimpleNamespace(
        member=member, holds_data=holds_data, store=StoreLimits(quota_bytes=QUOTA)
    )
    control = SimpleNamespace(tell=notes.__setitem__, notes=notes)
    layout = SimpleNamespace(space_lock=RUN / member)
    return SimpleNamespace(
        layout=layout, identity=identity, store=store, events=Events(), control=control
    )


def made(left: int, *, full: bool, **sizes: int) -> Store:
    members = simulated(left, **sizes)
    for name, status in members.statuses.items():
        in_use = status.db_size if full else left
        members.statuses[name] = replace(status, full=full, db_in_use=in_use)
    return Store(members)


async def lead(store: Store, member: str) -> None:
    await MemoryStore.txn(store, [], [])
    await store.put(keys.PATRONI_LEADER, member.encode())


async def run_for(seconds: float, *views: Any) -> None:
    works = [asyncio.create_task(keep_space(each)) for each in views]
    await asyncio.sleep(seconds)
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)


async def test_two_nodes_defragment_one_member_after_the_other() -> None:
    """Each when it pays off, the leader last; two at once would be noticed."""
    store = made(100, full=False, a=500, b=500, c=110)
    await run_for(5 * POLL_SECONDS, view(store, "a"), view(store, "b"))
    done = [call for call in store.simulated.calls if call.startswith("defragment")]
    assert done == ["defragment b", "defragment a"]
    assert await store.get(keys.DEFRAGMENTATION) is None


async def test_nothing_is_done_that_does_not_pay() -> None:
    """How full it is is reported all the same."""
    store = made(100, full=False, a=300, b=300, c=300)
    seen = view(store)
    await run_for(3 * POLL_SECONDS, seen)
    assert store.simulated.calls == []
    assert seen.control.notes["room"] == "the store uses 1 of 0 MiB (30 %)"


async def test_a_store_that_is_full_since_just_now_is_looked_at_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write fails before any member reports the alarm."""
    store = made(100, full=False, a=900, b=900, c=900)

    async def full(_: int) -> int:
        raise StoreFull("etcdserver: mvcc: database space exceeded")

    monkeypatch.setattr(store, "lease_grant", full)
    assert await SpaceKeeper(view(store)).run_once()


async def test_nobody_is_away_while_another_is_lost() -> None:
    """Even when it would pay off."""
    store = made(100, full=False, a=900, b=900, dead=900)
    await run_for(3 * POLL_SECONDS, view(store))
    assert store.simulated.calls == []


@pytest.mark.parametrize("leader", ["a", None])
async def test_a_full_store_is_mended(leader: str | None) -> None:
    """By the leader's node; without a leader by the first by name, otherwise none ever could."""
    store = made(100, full=False, a=1000, b=1000, dead=1000)
    if leader:
        await lead(store, leader)
    for name, status in store.simulated.statuses.items():
        store.simulated.statuses[name] = replace(status, full=True)
    await run_for(POLL_SECONDS, view(store, "b"), view(store, "a"))
    assert store.simulated.calls[0] == "compact 42"
    assert store.simulated.calls[-1] == "disarm"
    assert store.simulated.calls.count("disarm") == 1


async def test_the_next_one_mends_it_when_the_first_does_not() -> None:
    """A dead node is not waited for."""
    store = made(100, full=True, a=1000, b=1000, c=1000)
    await run_for(TURN_SECONDS - 1, view(store, "b"))
    assert store.simulated.calls == []
    await run_for(TURN_SECONDS + POLL_SECONDS, view(store, "b"))
    assert store.simulated.calls[-1] == "disarm"


async def test_a_witness_does_nothing() -> None:
    """Its account lacks the permissions."""
    store = made(100, full=True, a=1000, b=1000, c=1000)
    await run_for(5 * TURN_SECONDS, view(store, holds_data=False))
    assert store.simulated.calls == []


async def test_a_look_tells_whether_the_store_is_full() -> None:
    """Then the next check comes sooner."""
    assert await SpaceKeeper(view(made(990, full=True, a=1000, b=1000, c=1000))).run_once()
    assert not await SpaceKeeper(view(made(100, full=False, a=110, b=110, c=110))).run_once()


def tries(store: Store) -> int:
    return sum(call.startswith("compact") for call in store.simulated.calls)


async def test_members_are_not_troubled_for_nothing() -> None:
    """Each attempt interrupts all members and moves the leader: it waits for a deletion first."""
    store = made(990, full=True, a=1000, b=1000, c=1000)
    node = asyncio.create_task(keep_space(view(store)))
    await asyncio.sleep(FUTILE_SECONDS / 2)
    assert tries(store) == 1
    await asyncio.sleep(FUTILE_SECONDS)
    assert tries(store) == 2
    for name, status in store.simulated.statuses.items():
        store.simulated.statuses[name] = replace(status, revision=43)
    store.simulated.left = 100
    await asyncio.sleep(TURN_SECONDS + POLL_SECONDS)
    assert store.simulated.calls[-1] == "disarm"
    node.cancel()


async def test_a_full_store_is_left_to_the_command_on_the_same_node() -> None:
    """It grants no lease that could exclude one of them."""
    store = made(100, full=True, a=1000, b=1000, c=1000)
    seen = view(store, "a")
    descriptor = try_lock(seen.layout.space_lock)
    assert descriptor is not None
    await run_for(POLL_SECONDS, seen)
    assert store.simulated.calls == []
    os.close(descriptor)
    await run_for(POLL_SECONDS, seen)
    assert store.simulated.calls[-1] == "disarm"


async def test_a_full_store_is_left_to_the_new_leader() -> None:
    """A failover between two members ends the work of the former one."""
    store = made(100, full=True, a=1000, b=1000, c=1000)
    await lead(store, "a")
    work = asyncio.create_task(keep_space(view(store, "a")))
    while "defragment b" not in store.simulated.calls:  # noqa: ASYNC110 - SIMULATED time
        await asyncio.sleep(0.1)
    await lead(store, "b")
    done = len(store.simulated.calls)
    await asyncio.sleep(POLL_SECONDS)
    assert len(store.simulated.calls) <= done + 1
    assert "disarm" not in store.simulated.calls
    work.cancel()


async def test_a_witness_has_no_turn() -> None:
    """The others do not wait for one that frees no space."""
    store = made(100, full=True, b=1000, a=1000)
    store.simulated.strangers = ("a",)
    await run_for(TURN_SECONDS / 2, view(store, "b"))
    assert "defragment b" in store.simulated.calls
