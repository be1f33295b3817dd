"""The inventory in the store: replaced as a whole, by many writers, within bounds."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import pytest
from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType
from openvcha.infrastructure import changes
from openvcha.infrastructure.interface import NodeRequest, Placement
from openvcha.infrastructure.inventory import Host, HostAccess, Inventory, Vm
from openvcha.infrastructure.records import InventoryRecord, SeenInventory, read_seen, seen_record
from openvcha.infrastructure.state import MAX_HOSTS, State
from openvcha.store import keys
from openvcha.store.errors import OutcomeUnknown
from openvcha.store.interface import Action, Compare, KeyValue, TxnResult
from openvcha.store.memory import MemoryStore

ACCESS = HostAccess(address="192.0.2.11", host_key="ssh-ed25519 AAAA")
NOW = datetime(2026, 11, 28, 4, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def record(store: MemoryStore) -> InventoryRecord:
    return InventoryRecord(store)


async def site(record: InventoryRecord, name: str = "h1") -> Host:
    """Add a host with a datastore and both networks; return it."""
    host = await record.change(changes.add_host(name, f"uuid-{name}", ACCESS))
    await record.change(changes.add_datastore(f"data {name}", "/srv/vcha", host.id))
    inventory = (await record.load()).inventory
    if not inventory.networks:
        await record.change(changes.add_network("HA", "192.0.2.0/25"))
        await record.change(changes.add_network("Management", "192.0.2.128/25"))
    for number, network in enumerate((await record.load()).inventory.networks):
        host = await record.change(changes.attach_network(host.id, network.id, f"eth{number}"))
    return host


def request(inventory: Inventory, host: Host, name: str = "vcha-2") -> NodeRequest:
    ha, management = (network.id for network in inventory.networks)
    place = Placement(
        name=name,
        folder="group-v3",
        host=host.id,
        resource_pool="resgroup-9",
        datastore=next(iter(host.datastores)),
        ha_network=ha,
        management_network=management,
    )
    return NodeRequest(placement=place, token=name)


async def added(record: InventoryRecord, host: Host, name: str = "vcha-2") -> Vm:
    wanted = request((await record.load()).inventory, host, name)
    return await record.change(
        lambda state: changes.add_vm(state, wanted, f"uuid-{name}"), idempotent=True
    )


async def refused(record: InventoryRecord, step: changes.Step[Host]) -> ErrorType:
    with pytest.raises(ApiError) as caught:
        await record.change(step)
    return caught.value.error_type


async def test_an_inventory_begins_without_hosts(record: InventoryRecord) -> None:
    """But with the folder and the pool that a placement names."""
    inventory = (await record.load()).inventory
    assert (inventory.hosts, inventory.vms) == ((), ())
    assert inventory.folder("group-v3")
    assert inventory.resource_pool("resgroup-9")


async def test_what_is_added_is_found(record: InventoryRecord, store: MemoryStore) -> None:
    """By its identifier, from any node."""
    host = await site(record)
    vm = await added(record, host)
    inventory = (await InventoryRecord(store).load()).inventory
    assert inventory.vm(vm.id) == vm
    assert PurePath(vm.directory) == PurePath("/srv/vcha/vcha-2")
    found = inventory.host(host.id)
    assert found is not None
    assert found.access == ACCESS
    assert sorted(found.interfaces.values()) == ["eth0", "eth1"]
    assert set(found.interfaces) == found.networks == {one.id for one in inventory.networks}
    (datastore,) = inventory.datastores
    assert found.datastores == {datastore.id}


async def test_a_number_is_never_used_again(record: InventoryRecord) -> None:
    """Whatever was removed: an identifier in a task or a debt names one thing for ever."""
    host = await site(record)
    vm = await added(record, host)
    await record.change(changes.remove_vm(vm.id))
    again = await added(record, host)
    used = [host.id, vm.id, again.id, *(one.id for one in (await record.load()).inventory.networks)]
    numbers = [one.rpartition("-")[2] for one in used]
    assert len(set(numbers)) == len(numbers)


async def test_many_writers_lose_nothing(record: InventoryRecord, store: MemoryStore) -> None:
    """Each sees the others' changes, or tries again."""
    names = [f"h{number}" for number in range(20)]
    steps = [changes.add_host(name, name, ACCESS) for name in names]
    await asyncio.gather(*(InventoryRecord(store).change(step) for step in steps))
    hosts = (await record.load()).inventory.hosts
    assert sorted(host.name for host in hosts) == sorted(names)
    assert len({host.id for host in hosts}) == len(names)


async def test_a_token_is_one_vm(record: InventoryRecord, store: MemoryStore) -> None:
    """Also after a reply that was lost."""
    host = await site(record)
    made = await asyncio.gather(*(added(InventoryRecord(store), host) for _ in range(8)))
    assert len({vm.id for vm in made}) == 1
    lossy = InventoryRecord(Lossy(store))
    again = await added(lossy, host, "vcha-3")
    assert [vm.id for vm in (await record.load()).inventory.vms] == [made[0].id, again.id]


async def test_an_unknown_outcome_is_told(record: InventoryRecord, store: MemoryStore) -> None:
    """A change that may not be repeated is not repeated."""
    await site(record)
    with pytest.raises(OutcomeUnknown):
        await InventoryRecord(Lossy(store)).change(changes.add_host("h2", "u", ACCESS))
    assert len((await record.load()).inventory.hosts) == 2


class Lossy(MemoryStore):
    """A store whose first reply to a transaction is lost."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__()
        self._inner, self._lost = inner, False

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        done = await self._inner.txn(compares, success, failure)
        if not self._lost:
            self._lost = True
            raise OutcomeUnknown("reply lost")
        return done

    async def get(self, key: str) -> KeyValue | None:
        return await self._inner.get(key)


async def test_names_are_unique(record: InventoryRecord) -> None:
    """Ignoring case, as in vSphere."""
    await site(record)
    again = changes.add_host("H1", "u", ACCESS)
    assert await refused(record, again) is ErrorType.ALREADY_EXISTS


async def test_what_is_in_use_stays(record: InventoryRecord) -> None:
    """A VM keeps its host, its datastore and its networks."""
    host = await site(record)
    vm = await added(record, host)
    for step in (
        changes.remove_host(host.id),
        changes.remove_datastore(vm.datastore),
        changes.remove_network(vm.networks.ha),
    ):
        with pytest.raises(ApiError) as caught:
            await record.change(step)
        assert caught.value.error_type is ErrorType.RESOURCE_IN_USE
        assert vm.name in caught.value.messages[0].default_message


async def test_a_host_that_is_lost_for_good_takes_its_debts_along(record: InventoryRecord) -> None:
    """Only when told to: a VM that is to be deleted may still have its keys and data there."""
    host, other = await site(record), await site(record, "h2")
    vm = await added(record, host)
    await record.change(changes.mark_deleting(vm.id))
    assert await refused(record, changes.remove_host(host.id)) is ErrorType.RESOURCE_IN_USE
    assert (await record.load()).inventory.vm(vm.id)
    assert await record.change(changes.remove_host(host.id, abandon=True)) == host
    inventory = (await record.load()).inventory
    assert [one.id for one in inventory.hosts] == [other.id]
    assert inventory.vms == ()
    assert {one.id for one in inventory.datastores} == other.datastores
    assert await refused(record, changes.remove_host(host.id)) is ErrorType.NOT_FOUND


async def test_what_is_removed_is_named_nowhere(record: InventoryRecord) -> None:
    """A host forgets a network and a datastore."""
    host = await site(record)
    ha = (await record.load()).inventory.networks[0].id
    await record.change(changes.remove_network(ha))
    await record.change(changes.remove_datastore(next(iter(host.datastores))))
    left = (await record.load()).inventory.host(host.id)
    assert left is not None
    assert ha not in left.networks
    assert ha not in left.interfaces
    assert left.datastores == frozenset()


async def test_an_inventory_is_bounded(record: InventoryRecord) -> None:
    """The store keeps it in one record."""
    for number in range(MAX_HOSTS):
        await record.change(changes.add_host(f"h{number}", "u", ACCESS))
    step = changes.add_host("more", "u", ACCESS)
    assert await refused(record, step) is ErrorType.UNABLE_TO_ALLOCATE_RESOURCE


async def test_nothing_is_written_without_a_change(
    record: InventoryRecord, store: MemoryStore
) -> None:
    """A read, or a step that finds its own effect."""
    host = await site(record)
    await added(record, host)
    revision = store.revision
    await added(record, host)
    await record.load()
    assert store.revision == revision


async def test_the_copy_says_how_old_it_is(store: MemoryStore) -> None:
    """None without a copy, or if it cannot be read."""
    assert await read_seen(store, NOW) is None
    await seen_record(store).create(SeenInventory(seen=NOW, inventory=Inventory()))
    found = await read_seen(store, NOW + timedelta(seconds=90))
    assert found is not None
    assert found.age == 90
    assert replace(found, age=0.0) == Inventory()
    await store.put(keys.SEEN_INVENTORY, b"{")
    assert await read_seen(store, NOW) is None


def test_a_step_changes_only_what_it_returns() -> None:
    """States are values: the one before stays as it was."""
    before = State(next_number=5, inventory=Inventory())
    after, host = changes.add_host("h", "u", ACCESS)(before)
    assert (before.next_number, before.inventory.hosts) == (5, ())
    assert (after.next_number, after.inventory.hosts) == (6, (host,))
