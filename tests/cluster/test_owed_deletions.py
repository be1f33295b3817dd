"""Owed deletions: recorded once, bounded, and only by who still owns the task."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from openvcha.cluster.owed_deletions import (
    MAX_OWED,
    MAX_REASON,
    OwedDeletion,
    owe,
    read_owed,
    settle,
)
from openvcha.store import keys
from openvcha.store.errors import Fenced
from openvcha.store.interface import value_is
from openvcha.store.memory import MemoryStore

DEBT = OwedDeletion(
    vm="vm-2",
    name="vcha-2",
    member="vcha-2-old",
    data=True,
    since=datetime(2026, 11, 28, tzinfo=UTC),
    reason="its host does not respond",
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_a_debt_is_recorded_once(store: MemoryStore) -> None:
    """Recording it again changes only the reason."""
    assert await read_owed(store) == ()
    assert await owe(store, DEBT, [])
    revision = store.revision
    assert await owe(store, DEBT, [])
    assert store.revision == revision
    later = replace(DEBT, since=datetime(2027, 1, 1, tzinfo=UTC), reason="permission denied")
    assert await owe(store, later, [])
    assert await read_owed(store) == (replace(DEBT, reason="permission denied"),)


async def test_a_debt_is_settled(store: MemoryStore) -> None:
    """The others stay, and what is not owed is no error."""
    other = replace(DEBT, vm="vm-3")
    await settle(store, "vm-2", [])
    assert await owe(store, DEBT, [])
    assert await owe(store, other, [])
    await settle(store, "vm-2", [])
    await settle(store, "vm-2", [])
    assert await read_owed(store) == (other,)


async def test_debts_are_bounded(store: MemoryStore) -> None:
    """The caller hears when there are too many, and a reason is cut."""
    for number in range(MAX_OWED):
        assert await owe(store, replace(DEBT, vm=f"vm-{number}", reason="x" * 5000), [])
    assert not await owe(store, replace(DEBT, vm="vm-more"), [])
    found = await read_owed(store)
    assert len(found) == MAX_OWED
    assert {len(one.reason) for one in found} == {MAX_REASON}
    assert await owe(store, replace(DEBT, vm="vm-1"), [])


async def test_who_was_superseded_records_nothing(store: MemoryStore) -> None:
    """Neither a debt nor its end."""
    await store.put("/runner", b"another")
    guards = [value_is("/runner", b"own")]
    with pytest.raises(Fenced):
        await owe(store, DEBT, guards)
    assert await read_owed(store) == ()
    assert await owe(store, DEBT, [])
    with pytest.raises(Fenced):
        await settle(store, DEBT.vm, guards)
    assert await read_owed(store) == (DEBT,)


async def test_an_unreadable_record_is_replaced(store: MemoryStore) -> None:
    """A new debt must not be lost because of an old record."""
    await store.put(keys.OWED, b"{")
    assert await owe(store, DEBT, [])
    assert await read_owed(store) == (DEBT,)


def test_only_data_nodes_write_it() -> None:
    """A witness's thief could have a node deleted otherwise."""
    assert {keys.OWED, keys.INVENTORY, keys.SEEN_INVENTORY} <= set(keys.SEALED)
