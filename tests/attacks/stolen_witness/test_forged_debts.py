"""A stolen witness writes what is owed, or where the machines are: no VM is deleted for it."""

from datetime import UTC, datetime

import pytest
from tests.support.infrastructure_sites import SimulatedSite
from tests.support.simulated.observations import ObservationBuilder
from tests.support.simulated.sealed_store import SharedStore
from tests.support.vms import created

from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.owed_deletions import OwedDeletion, OwedDeletions, owe, read_owed
from openvcha.daemon.keepers.deletions import DeletionKeeper
from openvcha.infrastructure import changes
from openvcha.infrastructure.interface import Power
from openvcha.infrastructure.inventory import HostAccess
from openvcha.infrastructure.records import InventoryRecord, SeenInventory, read_seen
from openvcha.infrastructure.skeleton import skeleton
from openvcha.infrastructure.state import State
from openvcha.store import keys
from openvcha.store.errors import RecordForged
from openvcha.store.records import encode

NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Attacked:
    """A SIMULATED infrastructure with one VM, whose debts are in a store that a thief can write."""

    def __init__(self) -> None:
        self.shared, self.site = SharedStore(), SimulatedSite()
        self.vm = ""

    async def begin(self) -> None:
        """Create the VM; its node ``a-1`` leads."""
        await self.shared.store.put(keys.PATRONI_LEADER, b"a-1")
        vm = await created(self.site.infrastructure, await self.site.request())
        self.vm = vm.id

    async def observe(self) -> Observation:
        """Return a healthy cluster."""
        return ObservationBuilder().seen

    async def settle(self) -> None:
        """Let the active delete what is owed."""
        infrastructure = self.site.infrastructure
        await DeletionKeeper(self.shared.store, infrastructure, "a-1", self.observe).settle_all()

    async def there(self) -> bool:
        """Return whether the VM exists."""
        return (await self.site.infrastructure.node(self.vm)).power is not Power.GONE

    @property
    def debt(self) -> OwedDeletion:
        """Return a debt that names the VM."""
        return OwedDeletion(
            vm=self.vm, name="vcha-2", member="b-2-old", data=False, since=NOW, reason="forged"
        )


@pytest.fixture
async def attacked() -> Attacked:
    attacked = Attacked()
    await attacked.begin()
    return attacked


async def test_a_forged_debt_deletes_nothing(attacked: Attacked) -> None:
    """It is no record of a data node."""
    await attacked.shared.raw.put(keys.OWED, encode(OwedDeletions(items=(attacked.debt,))))
    with pytest.raises(RecordForged):
        await attacked.settle()
    assert await attacked.there()
    assert attacked.shared.store.refused() == (keys.OWED,)


async def test_a_settled_debt_is_not_restored(attacked: Attacked) -> None:
    """A copy of the record from before is not valid any more."""
    await owe(attacked.shared.store, attacked.debt, [])
    old = await attacked.shared.raw.get(keys.OWED)
    assert old is not None
    await attacked.settle()
    assert not await attacked.there()
    assert await read_owed(attacked.shared.store) == ()
    await attacked.begin()
    await attacked.shared.raw.put(keys.OWED, old.value)
    with pytest.raises(RecordForged):
        await attacked.settle()
    assert await attacked.there()


async def test_a_new_debt_is_recorded_in_spite_of_a_forged_one(attacked: Attacked) -> None:
    """Otherwise a forged record would make the cluster forget what it owes."""
    await attacked.shared.raw.put(keys.OWED, b"{}")
    assert await owe(attacked.shared.store, attacked.debt, [])
    assert await read_owed(attacked.shared.store) == (attacked.debt,)


async def test_a_forged_inventory_is_not_used(attacked: Attacked) -> None:
    """It could send the cluster's commands, or its new nodes, to another machine."""
    record = InventoryRecord(attacked.shared.store)
    host = await record.change(changes.add_host("h1", "u", HostAccess(address="192.0.2.1")))
    forged, _ = changes.set_access(host.id, HostAccess(address="192.0.2.66"))(await record.load())
    await attacked.shared.raw.put(keys.INVENTORY, encode(forged))
    with pytest.raises(RecordForged):
        await record.load()
    with pytest.raises(RecordForged):
        await record.change(changes.add_host("h2", "u", HostAccess(address="192.0.2.2")))
    assert isinstance(forged, State)


async def test_a_forged_copy_of_the_inventory_is_not_shown(attacked: Attacked) -> None:
    """It counts as missing."""
    copy = SeenInventory(seen=NOW, inventory=skeleton())
    await attacked.shared.raw.put(keys.SEEN_INVENTORY, encode(copy))
    assert await read_seen(attacked.shared.store, NOW) is None
