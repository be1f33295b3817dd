"""Typed records: compare-and-set loses no change, and guards fence replaced writers."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from openvcha.store.errors import Fenced, OutcomeUnknown, RecordInvalid, RecordMissing
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Action, Compare, Put, TxnResult, absent, created_at
from openvcha.store.memory import MemoryStore
from openvcha.store.records import Record, Records

AnyStore = MemoryStore | Etcd


class Counter(msgspec.Struct, frozen=True):
    """The record that the tests store."""

    number: int = 0
    names: frozenset[str] = frozenset()


def more(counter: Counter) -> Counter:
    """Increment the counter."""
    return msgspec.structs.replace(counter, number=counter.number + 1)


async def test_create_only_once(store: AnyStore, root: str) -> None:
    """The first create wins; a second one writes nothing and returns that."""
    record = Record(store, root + "c", Counter)
    assert await record.get() is None
    assert await record.create(Counter(1, frozenset({"a"})))
    assert not await record.create(Counter(2))
    assert await record.get() == Counter(1, frozenset({"a"}))
    assert await record.delete()
    assert not await record.delete()


async def test_concurrent_updates_are_all_applied(store: AnyStore, root: str) -> None:
    """No concurrent change is lost."""
    record = Record(store, root + "c", Counter)
    await record.create(Counter())
    await asyncio.gather(*(record.update(more) for _ in range(12)))
    assert await record.get() == Counter(12)


async def test_update_needs_a_record(store: AnyStore, root: str) -> None:
    """A missing record cannot be changed."""
    with pytest.raises(RecordMissing):
        await Record(store, root + "c", Counter).update(more)


async def test_update_that_changes_nothing_writes_nothing(store: AnyStore, root: str) -> None:
    """No revision is spent on an update without a change."""
    record = Record(store, root + "c", Counter)
    await record.create(Counter())
    before = await record.read()
    assert await record.update(lambda counter: counter) == Counter()
    assert await record.read() == before


async def test_guards(store: AnyStore, root: str) -> None:
    """A write whose guard fails changes nothing, including what goes along with it."""
    record = Record(store, root + "c", Counter)
    guard = created_at(root + "runner", 1)
    also = [Put(root + "also", b"")]
    with pytest.raises(Fenced):
        await record.create(Counter(), guards=[guard], also=also)
    assert await record.create(Counter(), guards=[absent(root + "runner")], also=also)
    await store.delete(root + "also")
    with pytest.raises(Fenced):
        await record.update(more, guards=[guard], also=also)
    with pytest.raises(Fenced):
        await record.delete(guards=[guard])
    assert await record.get() == Counter()
    assert await store.get(root + "also") is None
    await record.update(more, guards=[absent(root + "runner")], also=also)
    assert await store.get(root + "also") is not None


async def test_update_keeps_the_lease(store: AnyStore, root: str) -> None:
    """A change keeps the record's lease."""
    record = Record(store, root + "c", Counter)
    lease = await store.lease_grant(60)
    await record.create(Counter(), lease=lease)
    await record.update(more)
    await store.lease_revoke(lease)
    assert await record.get() is None


async def test_invalid_record_names_its_key(store: AnyStore, root: str) -> None:
    """A value of another shape is reported with its key."""
    await store.put(root + "c", b'{"number": "many"}')
    with pytest.raises(RecordInvalid, match=root + "c"):
        await Record(store, root + "c", Counter).get()


async def test_an_unreadable_record_hides_no_other(store: AnyStore, root: str) -> None:
    """Otherwise one bad user would lock all the others out."""
    for name, value in (("a", b'{"number": 1}'), ("b", b"\xff"), ("c", b'{"number": 3}')):
        await store.put(root + name, value)
    found = await Records(store, root, Counter).all()
    assert found == {root + "a": Counter(1), root + "c": Counter(3)}


async def test_all_records(store: AnyStore, root: str) -> None:
    """All records below a prefix are read at once."""
    records = Records(store, root, Counter)
    await records.record(root + "a").create(Counter(1))
    await records.record(root + "b").create(Counter(2))
    assert await records.all() == {root + "a": Counter(1), root + "b": Counter(2)}


class Unsure(MemoryStore):
    """Simulated: the first conditional write is done, but its answer is lost."""

    lost = False

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Lose one answer."""
        result = await super().txn(compares, success, failure)
        if len(compares) > 0 and result.succeeded and self.revision == 3 and not self.lost:
            self.lost = True
            raise OutcomeUnknown("the answer was lost")
        return result


async def test_unknown_outcome() -> None:
    """A lost answer is raised, unless the change is idempotent."""
    record = Record(Unsure(), "c", Counter)
    await record.create(Counter())
    with pytest.raises(OutcomeUnknown):
        await record.update(more)
    record = Record(Unsure(), "c", Counter)
    await record.create(Counter())
    assert await record.update(lambda _: Counter(7), idempotent=True) == Counter(7)
