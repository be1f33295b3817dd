"""The copy of the inventory: written when it changes, by the active alone."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.infrastructure_sites import SimulatedSite
from tests.support.vms import created

from openvcha.api.structures import VmPowerState
from openvcha.daemon.keepers.inventory import InventoryKeeper
from openvcha.infrastructure.records import read_seen, seen_record
from openvcha.store import keys
from openvcha.store.errors import Fenced
from openvcha.store.memory import MemoryStore

NOW = datetime(2026, 11, 28, 4, tzinfo=UTC)


class Kept:
    """A keeper of a SIMULATED infrastructure on the node ``a``, which leads."""

    def __init__(self) -> None:
        self.store, self.site, self.now = MemoryStore(), SimulatedSite(), NOW
        self.keeper = InventoryKeeper(
            self.store, self.site.infrastructure, "a", clock=lambda: self.now
        )


@pytest.fixture
async def kept() -> Kept:
    kept = Kept()
    await kept.store.put(keys.PATRONI_LEADER, b"a")
    return kept


async def test_it_is_written_once_and_after_each_change(kept: Kept) -> None:
    """Power and free space change all the time: they are no part of it."""
    await kept.keeper.copy()
    first = await read_seen(kept.store, NOW)
    assert first is not None
    assert first.vms == ()
    assert len(first.hosts) == 3
    vm = await created(kept.site.infrastructure, await kept.site.request())
    kept.now = NOW + timedelta(minutes=1)
    await kept.keeper.copy()
    revision = kept.store.revision
    await kept.site.infrastructure.power_on(vm.id)
    await kept.keeper.copy()
    assert kept.store.revision == revision
    second = await read_seen(kept.store, NOW + timedelta(minutes=3))
    assert second is not None
    assert second.age == 120
    assert [(one.id, one.power_state) for one in second.vms] == [(vm.id, VmPowerState.POWERED_OFF)]
    assert {one.free_space for one in second.datastores} == {0}


async def test_another_process_does_not_write_it_again(kept: Kept) -> None:
    """A restart, or a failover, finds it there."""
    await kept.keeper.copy()
    revision = kept.store.revision
    await InventoryKeeper(kept.store, kept.site.infrastructure, "a").copy()
    assert kept.store.revision == revision


async def test_an_inventory_that_cannot_be_read_leaves_the_copy(kept: Kept) -> None:
    """This node does not see it; another one did."""
    await kept.keeper.copy()
    kept.site.world.faults.add("infrastructure busy")
    await InventoryKeeper(kept.store, kept.site.infrastructure, "a").copy()
    assert await read_seen(kept.store, NOW) is not None


async def test_only_the_active_writes_it(kept: Kept) -> None:
    """A former active's view may be older."""
    await kept.store.put(keys.PATRONI_LEADER, b"b")
    with pytest.raises(Fenced):
        await kept.keeper.copy()
    assert await seen_record(kept.store).get() is None


async def test_a_copy_that_cannot_be_read_is_replaced(kept: Kept) -> None:
    """By the next one."""
    await kept.store.put(keys.SEEN_INVENTORY, b"{")
    await kept.keeper.copy()
    assert await read_seen(kept.store, NOW) is not None
