"""The commands that change the store, and their audit records."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from tests.support.simulated.roomy import StoreWithMembers, simulated

from openvcha.api.structures import AuditInfo
from openvcha.daemon import store_maintenance as maintenance
from openvcha.daemon.store_maintenance import AcceptRefused
from openvcha.daemon.unreadable_records import SetAsideRefused
from openvcha.events.audit import AuditLog
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = b"\xff"


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


async def test_freed_space_is_audited_when_the_store_takes_writes_again() -> None:
    """A full store would not accept the record earlier."""
    store = StoreWithMembers(simulated(100, a=1000, b=1000))
    after = await maintenance.free_space(cast("Any", store), 1000, print, by="me")
    assert not after.full
    assert (await audited(store)).operation == "store.defragment"
