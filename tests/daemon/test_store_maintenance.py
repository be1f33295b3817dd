"""The commands that change the store, and their audit records."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.simulated.roomy import StoreWithMembers, simulated

from openvcha.api.structures import AuditInfo
from openvcha.daemon import store_maintenance as maintenance
from openvcha.daemon.store_maintenance import AcceptRefused, DefragmentRefused, Node
from openvcha.daemon.unreadable_records import SetAsideRefused
from openvcha.events.audit import AuditLog
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = b"\xff"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node("a", tmp_path / "lock", 1000)


async def audited(store: Store) -> AuditInfo:
    """Return the only audit record."""
    (entry,) = await AuditLog(store).list()
    return entry


async def test_what_is_set_aside_is_audited() -> None:
    """With the key and the user."""
    store = MemoryStore()
    await store.put(keys.CLUSTER, BROKEN)
    (one,) = await maintenance.find_unreadable(store)
    assert one.key == keys.CLUSTER
    place = await maintenance.set_aside(store, keys.CLUSTER, by="me", now=NOW)
    assert await store.get(place)
    entry = await audited(store)
    assert (entry.operation, entry.user, entry.result) == ("store.set-aside", "me", "OK")


async def test_what_is_refused_is_audited_with_the_reason() -> None:
    """A key that does not exist."""
    store = MemoryStore()
    with pytest.raises(SetAsideRefused, match="no record"):
        await maintenance.set_aside(store, keys.CLUSTER, by="me", now=NOW)
    entry = await audited(store)
    assert entry.result == "NOT_ALLOWED_IN_CURRENT_STATE"
    assert entry.reason
    assert "no record" in entry.reason.default_message


@pytest.mark.parametrize("accepted", [True, False])
async def test_accepting_is_audited_whether_it_was_done_or_not(accepted: bool) -> None:
    """It fails when users were changed meanwhile."""

    class Rolled(MemoryStore):
        async def accept(self) -> bool:
            return accepted

    store: Any = Rolled()
    if accepted:
        await maintenance.accept(store, by="me")
    else:
        with pytest.raises(AcceptRefused, match="just been changed"):
            await maintenance.accept(store, by="me")
    entry = await audited(store)
    assert (entry.operation, entry.result == "OK") == ("store.accept", accepted)


async def test_freed_space_is_audited_when_the_store_takes_writes_again(node: Node) -> None:
    """A full store would not accept the record earlier."""
    store = StoreWithMembers(simulated(100, a=1000, b=1000))
    after = await maintenance.free_space(cast("Any", store), node, print, by="me")
    assert not after.full
    assert (await audited(store)).operation == "store.defragment"


@pytest.mark.looptime
async def test_two_commands_on_a_full_store_take_down_one_member_at_a_time(node: Node) -> None:
    """It grants no lease: on one node a file excludes the second."""
    store = StoreWithMembers(simulated(100, a=1000, b=1000))
    works = [maintenance.free_space(cast("Any", store), node, print, by=by) for by in ("a", "b")]
    done = await asyncio.gather(*works, return_exceptions=True)
    (refused,) = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(refused, DefragmentRefused)
    assert "just freeing space" in str(refused)


@pytest.mark.parametrize(("leader", "charged"), [(b"b", "b"), (b"gone", "a"), (None, "a")])
async def test_a_full_store_is_freed_on_one_node_only(
    node: Node, leader: bytes | None, charged: str
) -> None:
    """The leader's, whose keeper does it too; a value that names no member changes nothing."""
    store = StoreWithMembers(simulated(100, a=1000, b=1000))
    if leader:
        await store.put(keys.PATRONI_LEADER, leader)
    (other,) = {"a", "b"} - {charged}
    with pytest.raises(DefragmentRefused, match=f"run this on {charged}"):
        await maintenance.free_space(
            cast("Any", store), replace(node, member=other), print, by="me"
        )
    assert store.simulated.calls == []
    node = replace(node, member=charged)
    assert not (await maintenance.free_space(cast("Any", store), node, print, by="me")).full


def not_full(**sizes: int) -> StoreWithMembers:
    """Return a store that accepts writes, with members of these sizes."""
    members = simulated(100, **sizes)
    for name, status in members.statuses.items():
        members.statuses[name] = replace(status, full=False)
    return StoreWithMembers(members)


async def test_no_member_is_defragmented_while_another_is_silent(node: Node) -> None:
    """With two members unavailable there would be no quorum; the refusal is audited."""
    store = not_full(a=900, b=900, dead=900)
    with pytest.raises(DefragmentRefused, match="dead does not respond"):
        await maintenance.free_space(cast("Any", store), node, print, by="me")
    assert store.simulated.calls == []
    assert (await audited(store)).result == "NOT_ALLOWED_IN_CURRENT_STATE"


@pytest.mark.looptime
async def test_two_commands_at_once_take_down_one_member_at_a_time(node: Node) -> None:
    """The second is refused, and the lock is free afterwards."""
    store = not_full(a=900, b=900, c=900)
    works = [maintenance.free_space(cast("Any", store), node, print, by=by) for by in ("a", "b")]
    done = await asyncio.gather(*works, return_exceptions=True)
    (refused,) = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(refused, DefragmentRefused)
    assert "another defragmentation is running" in str(refused)
    assert len([one for one in store.simulated.calls if "defragment" in one]) == 3
    assert await store.get(keys.DEFRAGMENTATION) is None


@pytest.mark.looptime
async def test_the_rest_is_left_when_a_member_falls_silent_between_two(node: Node) -> None:
    """The members are asked again before each one."""
    store = not_full(a=900, b=900, c=900)
    said: list[str] = []

    def lose(text: str) -> None:
        said.append(text)
        store.simulated.statuses["dead"] = store.simulated.statuses["c"]

    with pytest.raises(DefragmentRefused, match="dead does not respond"):
        await maintenance.free_space(cast("Any", store), node, lose, by="me")
    assert len(said) == 1
    assert await store.get(keys.DEFRAGMENTATION) is None


@pytest.mark.looptime
async def test_the_rest_is_left_when_the_lock_is_lost(node: Node) -> None:
    """Another node may be defragmenting its own member by then."""
    store = not_full(a=900, b=900, c=900)
    said: list[str] = []
    steal: list[asyncio.Task[bool]] = []

    def lose(text: str) -> None:
        said.append(text)
        steal.append(asyncio.ensure_future(store.delete(keys.DEFRAGMENTATION)))

    slow = store.simulated.defragment

    async def defragment(endpoint: str) -> None:
        await asyncio.sleep(30)
        await slow(endpoint)

    store.simulated.defragment = defragment  # type: ignore[method-assign]
    with pytest.raises(DefragmentRefused, match="lost"):
        await maintenance.free_space(cast("Any", store), node, lose, by="me")
    assert len(said) == 2
