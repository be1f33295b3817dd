"""The copy of an inventory that is in the store, for when the store does not answer."""

from pathlib import Path

import pytest

from openvcha.api.errors import ApiError, ErrorType
from openvcha.infrastructure import changes
from openvcha.infrastructure.hosts.kept_inventory import KeptInventory
from openvcha.infrastructure.records import InventoryRecord
from openvcha.infrastructure.state import State
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore


class SimulatedRecord(InventoryRecord):
    """An inventory in a store that may be SIMULATED not to answer."""

    answers = True

    async def load(self) -> State:
        """Return the state. Raises StoreUnavailable."""
        if not self.answers:
            raise StoreUnavailable("no quorum")
        return await super().load()


@pytest.fixture
def record() -> SimulatedRecord:
    return SimulatedRecord(MemoryStore())


def hosts_of(state: State) -> list[str]:
    return [network.name for network in state.inventory.networks]


async def test_without_the_store_the_last_look_counts(
    record: SimulatedRecord, tmp_path: Path
) -> None:
    """Also in another program, which does not use the store at all."""
    kept = KeptInventory(record, tmp_path / "hosts.json")
    await kept.change(changes.add_network("ha", "198.18.2.0/24"))
    assert hosts_of(await kept.load()) == ["ha"]
    await record.change(changes.add_network("later", "198.18.3.0/24"))
    record.answers = False
    assert hosts_of(await kept.load_or_copy()) == ["ha"]
    other = KeptInventory(None, tmp_path / "hosts.json")
    assert hosts_of(await other.load_or_copy()) == ["ha"]
    record.answers = True
    assert hosts_of(await kept.load_or_copy()) == ["ha", "later"]
    assert hosts_of(await other.load_or_copy()) == ["ha", "later"]


async def test_a_copy_is_used_only_by_those_who_ask_for_one(
    record: SimulatedRecord, tmp_path: Path
) -> None:
    """What it lacks may exist: a decision that nothing is there needs the store."""
    kept = KeptInventory(record, tmp_path / "hosts.json")
    await kept.load()
    record.answers = False
    with pytest.raises(StoreUnavailable):
        await kept.load()
    with pytest.raises(ApiError) as refused:
        await KeptInventory(None, tmp_path / "hosts.json").load()
    assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE


@pytest.mark.parametrize("content", [None, b"", b"{"])
async def test_without_a_copy_the_reason_is_told(
    record: SimulatedRecord, tmp_path: Path, content: bytes | None
) -> None:
    """Nothing is taken for an inventory without hosts."""
    file = tmp_path / "hosts.json"
    if content is not None:
        file.write_bytes(content)
    record.answers = False
    with pytest.raises(ApiError) as refused:
        await KeptInventory(record, file).load_or_copy()
    assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE
    assert "no quorum" in refused.value.messages[0].default_message


async def test_only_the_store_is_changed(tmp_path: Path) -> None:
    """A copy that was changed would be lost, or hide what another node has changed."""
    with pytest.raises(ApiError) as refused:
        await KeptInventory(None, tmp_path / "f").change(changes.add_network("n", "::/64"))
    assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE


async def test_a_copy_that_cannot_be_written_hides_nothing(
    record: SimulatedRecord, tmp_path: Path
) -> None:
    """The disk may be full; the store has the inventory."""
    kept = KeptInventory(record, tmp_path / "missing" / "hosts.json")
    await kept.change(changes.add_network("ha", "198.18.2.0/24"))
    assert hosts_of(await kept.load()) == ["ha"]
