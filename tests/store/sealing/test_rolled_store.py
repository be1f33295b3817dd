"""The roll with concurrent writers, readers, crashes and lost answers: no false alarm, no loss."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.simulated.mirrored import Remote, mirrored

from openvcha.api.secret import Secret
from openvcha.node.layout import Layout
from openvcha.node.local_records.sealed_records import KEPT, KeptRecords
from openvcha.store import keys
from openvcha.store.errors import (
    Fenced,
    OutcomeUnknown,
    RecordForged,
    RecordMissing,
    StoreUnavailable,
)
from openvcha.store.interface import (
    Action,
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    Store,
    TxnResult,
    unchanged,
)
from openvcha.store.mirror import Mirror
from openvcha.store.records import Record, Records
from openvcha.store.sealing import roll
from openvcha.store.sealing.roll import EMPTY, Roll
from openvcha.store.sealing.rolled_store import RolledStore
from openvcha.store.sealing.seal import RESERVED, Seals

pytestmark = pytest.mark.looptime

NAMES = [keys.user(name) for name in ("anna", "bert", "carl")] + [
    keys.join_token("passive"),
    keys.boot_token("passive"),
]


class Thing(msgspec.Struct, frozen=True):
    """The record that the tests store."""

    text: str


class Lossy(Remote):
    """A distant simulated store that loses some writes, or only their answers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.lossy = True

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        assert self.chance
        fate = self.chance.random() if self.lossy else 1.0
        if fate < 0.05:
            raise OutcomeUnknown("lost on its way")
        result = await super().txn(compares, success, failure)
        if fate < 0.1:
            raise OutcomeUnknown("its answer is lost")
        return result

    def roll(self) -> Roll:
        """Return the roll as it is in the store."""
        found = self._keys.get(keys.ROLL)
        return (roll.read(found.value.partition(b"\n")[2]) if found else None) or EMPTY


class StoreClients:
    def __init__(self, folder: Path, seed: int) -> None:
        self.raw = Lossy(seed)
        self.folder = folder
        self.random = random.Random(seed)

    def layout(self, node: str) -> Layout:
        (self.folder / node).mkdir(exist_ok=True)
        return Layout(self.folder / node)

    def program(self, node: str, inner: Store | None = None, *, keeps: bool) -> RolledStore:
        kept = KeptRecords(self.layout(node), writes=keeps)
        return RolledStore(inner or self.raw, Seals(lambda: [Secret("a key")]), kept)

    def kept(self, node: str) -> int:
        good = KeptRecords(self.layout(node), writes=False).load(keys.ROLL)
        return good.revision if good else 0

    async def change(self, store: RolledStore) -> None:
        """Change one record in one way, as the cluster's own programs do."""
        record = Record(store, self.random.choice(NAMES), Thing)
        new = Thing(str(self.random.random()))
        with suppress(StoreUnavailable, RecordMissing, Fenced):
            match self.random.randrange(4):
                case 0:
                    await record.create(new)
                case 1:
                    await record.update(lambda _: new, idempotent=True)
                case 2:
                    found = await record.read_valid()
                    guards = [Compare(record.key, *_state(found.kv))] if found else []
                    await record.delete(guards=guards)
                case _:
                    await store.put(record.key, msgspec.json.encode(new))

    async def look(self, store: RolledStore) -> None:
        """Read in every way; any refusal is a false alarm."""
        await Records(store, keys.USERS, Thing).all()
        await store.get_many(NAMES)
        for key in NAMES:
            await store.get(key)


def _state(kv: KeyValue) -> tuple[Any, int]:
    condition = unchanged(kv)
    assert isinstance(condition.operand, int)
    return condition.target, condition.operand


@pytest.mark.parametrize("seed", range(6))
async def test_no_crash_and_no_race_is_taken_for_a_thief(seed: int, tmp_path: Path) -> None:
    """Several programs of two nodes change, read and exit at any moment, one reads a mirror."""
    clients = StoreClients(tmp_path, seed)
    alarms: list[tuple[str, ...]] = []

    async def program(node: str, *, keeps: bool, inner: Store | None = None) -> None:
        while True:
            store = clients.program(node, inner, keeps=keeps)
            try:
                async with asyncio.timeout(clients.random.uniform(0.1, 1.5)):
                    while True:
                        await clients.change(store)
                        await clients.look(store)
            except TimeoutError:
                pass
            alarms.append(store.refused())
            # Nothing uncommitted is kept.
            assert clients.kept(node) <= clients.raw.roll().number

    async def follower(node: str) -> None:
        store = clients.program(node, keeps=True)
        await store.follow_roll()

    async with mirrored(clients.raw) as mirror, asyncio.timeout(60):
        assert isinstance(mirror, Mirror)
        works = [
            program("a", keeps=False),
            program("a", keeps=False, inner=mirror),
            program("b", keeps=False),
            follower("a"),
            follower("b"),
        ]
        running = [asyncio.create_task(work) for work in works]
        await asyncio.sleep(4)
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    assert len(alarms) > 2
    assert set(alarms) == {()}
    clients.raw.lossy = False
    for node in ("a", "b", "never"):
        store = clients.program(node, keeps=False)
        assert await store.differing() == ()
        await clients.look(store)
        assert store.refused() == ()


@pytest.mark.parametrize("happens", [False, True])
async def test_a_transaction_whose_outcome_is_unknown_is_not_kept(
    happens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was carried out or not: the next read tells."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    store = clients.program("a", keeps=True)
    await store.put(NAMES[0], b'{"text":"one"}')

    async def lost(*parts: Any) -> TxnResult:
        if happens:
            await Lossy.txn(clients.raw, *parts)
        raise OutcomeUnknown("lost")

    with monkeypatch.context() as patched:
        patched.setattr(clients.raw, "txn", lost)
        with pytest.raises(OutcomeUnknown):
            await store.put(NAMES[0], b'{"text":"two"}')
    assert clients.kept("a") == 1
    await clients.look(store)
    assert store.refused() == ()
    assert clients.kept("a") == 1 + happens


async def test_each_way_to_change_changes_the_roll(tmp_path: Path) -> None:
    """By a put, a deletion of one or all, in a transaction; a write without a change does not."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    store = clients.program("a", keeps=True)
    for number, key in enumerate(NAMES, 1):
        await store.put(key, b"{}")
        assert clients.raw.roll().number == number
    assert set(clients.raw.roll().records) == set(NAMES)
    assert await store.delete(NAMES[0])
    assert not await store.delete(NAMES[0])
    assert clients.raw.roll().number == len(NAMES) + 1
    assert await store.delete_prefix(keys.JOINS) == 2
    assert await store.delete_prefix(keys.JOINS) == 0
    assert set(clients.raw.roll().records) == set(NAMES[1:3])
    await store.put(keys.ROOT + "free", b"1")
    assert clients.raw.roll().number == len(NAMES) + 2
    await store.txn([], [Get(keys.ROOT), Delete(keys.ROOT + "u", prefix=True)])
    assert clients.raw.roll().records == {}
    assert not (
        await store.txn(
            [Compare(NAMES[0], *_state(KeyValue(NAMES[0], b"", 1, 9)))], [Put(NAMES[0], b"{}")]
        )
    ).succeeded
    assert clients.raw.roll().records == {}


async def test_a_reservation_of_a_program_that_died_is_in_nobodys_way(tmp_path: Path) -> None:
    """Neither on the roll, nor on a record."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    store = clients.program("a", keeps=True)
    for key in (keys.ROLL, NAMES[0]):
        await clients.raw.put(key, RESERVED)
    assert await store.delete_prefix(keys.JOINS) == 0
    assert await Record(store, NAMES[0], Thing).create(Thing("one"))
    assert await Record(store, NAMES[0], Thing).get() == Thing("one")


async def test_the_files_of_a_node_are_its_owners(tmp_path: Path) -> None:
    """An unreadable one counts as missing: the next roll replaces it."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    await clients.program("a", keeps=True).put(NAMES[0], b"{}")
    path = clients.layout("a").kept_records / KEPT[keys.ROLL]
    assert path.stat().st_mode & 0o777 == 0o600
    for damaged in (b"", b"9\n", b"9\n[]", b"x\n{}"):
        path.write_bytes(damaged)
        store = clients.program("a", keeps=True)
        assert await store.get(NAMES[0]) is not None
        assert store.refused() == ()


async def test_a_request_costs_no_question_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roll is read with the record; with a mirror nothing is requested at all."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    await clients.program("a", keeps=True).put(NAMES[0], b"{}")
    store = clients.program("a", keeps=False)
    calls = 0

    async def counted(names: Sequence[str]) -> list[KeyValue | None]:
        nonlocal calls
        calls += 1
        return await Lossy.get_many(clients.raw, names)

    monkeypatch.setattr(clients.raw, "get_many", counted)
    await store.get(NAMES[0])
    await store.get_many(NAMES)
    assert calls == 2
    async with mirrored(clients.raw) as mirror:
        reading = clients.program("a", mirror, keeps=False)
        await asyncio.sleep(3)
        clients.raw.reads.clear()
        await reading.get(NAMES[0])
        await reading.get_many(NAMES[:3])
        await reading.prefix(keys.USERS)
        assert calls == 2
        assert clients.raw.reads == []


async def test_a_record_that_the_roll_refuses_can_be_set_aside(tmp_path: Path) -> None:
    """It is reported as forged, with its content."""
    clients = StoreClients(tmp_path, 1)
    clients.raw.lossy = False
    store = clients.program("a", keeps=True)
    await store.put(NAMES[0], b"{}")
    old = dict(clients.raw._keys)
    await store.delete(NAMES[0])
    clients.raw._keys = old
    with pytest.raises(RecordForged) as refused:
        await store.get(NAMES[0])
    assert refused.value.raw == old[NAMES[0]]
