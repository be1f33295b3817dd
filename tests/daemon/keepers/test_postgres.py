"""A paused Patroni leaves PostgreSQL alone: what is started and stopped then, and what never is."""

import asyncio
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.support.simulated.observations import ObservationBuilder
from tests.support.simulated.sealed_store import SharedStore

from openvcha.cluster.config import cluster_record
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.daemon.keepers.postgres import NodeSituation, PostgresAction, PostgresKeeper, decide
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import Put
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState

OWN, OTHER = "a-1", "b-2"
MAINTENANCE = frozenset({keys.PAUSE, keys.ALONE})
DISABLED = MAINTENANCE | {keys.DETACHED}
DOWN = PatroniNode("replica", "stopped", None, ())
STREAMING = PatroniNode("replica", "streaming", 1, ())
STARTING = PatroniNode("replica", "starting", None, ())
PRIMARY = PatroniNode("primary", "running", 1, ())

# The active whose node restarts: no node leads, and it was the last leader.
ACTIVE_DOWN = NodeSituation(
    member=OWN,
    node=DOWN,
    standby=False,
    settings=MAINTENANCE,
    configured=True,
    leader=None,
    sync=SyncState(OWN, frozenset()),
    failover_pending=False,
)
STANDBY_DOWN = replace(ACTIVE_DOWN, standby=True, leader=OTHER, sync=SyncState(OTHER, frozenset()))
STANDBY_UP = replace(STANDBY_DOWN, node=STREAMING)


@pytest.mark.parametrize("settings", [MAINTENANCE, DISABLED])
def test_the_active_comes_back_as_the_active(settings: frozenset[str]) -> None:
    """Its own leader key may not have expired yet."""
    for leader in (None, OWN):
        at = replace(ACTIVE_DOWN, settings=settings, leader=leader)
        assert decide(at) is PostgresAction.START


@pytest.mark.parametrize(
    "changed",
    [
        {"leader": OTHER},
        {"sync": SyncState(OTHER, frozenset({OWN}))},
        {"sync": SyncState(None, frozenset())},
        {"failover_pending": True},
        {"settings": frozenset()},
        {"node": STARTING},
        {"node": PatroniNode("primary", "unknown", None, ())},
    ],
    ids=str,
)
def test_data_of_a_primary_stay_down_where_another_leads_has_led_or_is_about_to(
    changed: dict[str, object],
) -> None:
    """Each guard alone suffices: there must never be a second primary."""
    assert decide(replace(ACTIVE_DOWN, **changed)) is None  # type: ignore[arg-type]  # the tests name the fields


def test_no_situation_starts_a_primary_beside_another() -> None:
    """All combinations: a primary's data are started only where this node alone may lead."""
    for node, settings, configured_, leader, last, handing in product(
        (DOWN, STREAMING, STARTING, PRIMARY),
        (frozenset[str](), MAINTENANCE, DISABLED),
        (False, True),
        (None, OWN, OTHER),
        (None, OWN, OTHER),
        (False, True),
    ):
        at = NodeSituation(
            OWN, node, False, settings, configured_, leader, SyncState(last, frozenset()), handing
        )
        if decide(at) is PostgresAction.START:
            assert node is DOWN
            assert keys.PAUSE in settings
            assert leader in {None, OWN}
            assert last == OWN
            assert not handing


def test_a_standby_comes_back_as_a_standby() -> None:
    """In MAINTENANCE replication goes on; even without a leader at the moment."""
    assert decide(STANDBY_DOWN) is PostgresAction.START
    assert decide(replace(STANDBY_DOWN, leader=None)) is PostgresAction.START


def test_a_standby_of_a_disabled_cluster_stays_down() -> None:
    """Even after its node was off."""
    assert decide(replace(STANDBY_DOWN, settings=DISABLED)) is None
    assert decide(replace(STANDBY_DOWN, settings=DISABLED, leader=None)) is None


def test_a_standby_of_a_disabled_cluster_is_stopped() -> None:
    """And in no other mode."""
    assert decide(replace(STANDBY_UP, settings=DISABLED)) is PostgresAction.STOP
    assert decide(STANDBY_UP) is None
    assert decide(replace(STANDBY_UP, settings=frozenset())) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"sync": SyncState(OTHER, frozenset({OWN}))},
        {"leader": None},
        {"leader": OWN},
        {"standby": False},
        {"node": PRIMARY},
        {"node": PatroniNode("primary", "starting", None, ())},
    ],
    ids=str,
)
def test_it_is_not_stopped_while_it_may_take_over_or_when_it_is_no_standby(
    changed: dict[str, object],
) -> None:
    """Its right to lead ends first, and a primary is never taken for a standby."""
    at = replace(STANDBY_UP, settings=DISABLED, **changed)  # type: ignore[arg-type]  # as above
    expected = PostgresAction.STOP if at.node is PRIMARY else None
    assert decide(at) is expected
    if expected:
        assert at.leader == OTHER


def test_a_new_node_shows_itself_before_the_mode_counts_for_it() -> None:
    """A redeploy in DISABLED needs to see it stream once."""
    new = replace(STANDBY_DOWN, settings=DISABLED, configured=False)
    assert decide(new) is PostgresAction.START
    assert decide(replace(new, node=STREAMING)) is None


@pytest.mark.parametrize("settings", [MAINTENANCE, DISABLED])
def test_a_primary_beside_another_leader_is_ended(settings: frozenset[str]) -> None:
    """A paused Patroni would let it run. The leader is left alone."""
    second = replace(ACTIVE_DOWN, node=PRIMARY, settings=settings, leader=OTHER)
    assert decide(second) is PostgresAction.STOP
    assert decide(replace(second, leader=OWN)) is None
    assert decide(replace(second, leader=None)) is None
    assert decide(replace(second, settings=frozenset())) is None


class Node:
    """Stands in for a node's Patroni and PostgreSQL; records the calls."""

    def __init__(self) -> None:
        self.standby = True
        self.state = STREAMING
        self.told: list[str] = []
        self.away = False

    async def node(self, address: str) -> PatroniNode:
        assert address == "127.83.2.11"
        if self.away:
            raise PatroniUnreachable("away")
        return self.state

    async def start(self, address: str) -> None:
        self.told.append(f"start {address}")
        self.state = STREAMING

    async def stop(self) -> bool:
        self.told.append("stop")
        self.state = DOWN
        return True


@pytest.fixture
async def store() -> MemoryStore:
    """Return the store of a DISABLED cluster that another node leads."""
    made = MemoryStore()
    await cluster_record(made).create(ObservationBuilder().seen.config)
    await made.put(keys.PATRONI_CONFIG, b'{"pause":true,"openvcha_detached":true}')
    await made.put(keys.PATRONI_LEADER, OTHER.encode())
    await made.put(keys.PATRONI_SYNC, b'{"leader":"b-2","sync_standby":null}')
    return made


@pytest.mark.looptime
async def test_it_follows_the_mode_as_it_changes(store: MemoryStore) -> None:
    """Down while DISABLED, up again when the standby is attached, left alone without a pause."""
    node = Node()
    keeping = asyncio.create_task(PostgresKeeper(store, node, node, OWN, "127.83.2.11").run())
    await asyncio.sleep(3)
    assert node.told == ["stop"]
    await store.put(keys.PATRONI_CONFIG, b'{"pause":true}')
    await asyncio.sleep(3)
    assert node.told == ["stop", "start 127.83.2.11"]
    await store.put(keys.PATRONI_CONFIG, b"{}")
    node.state = DOWN
    await asyncio.sleep(3)
    assert len(node.told) == 2
    keeping.cancel()
    await asyncio.wait([keeping])


@pytest.mark.looptime
async def test_what_cannot_be_looked_at_is_looked_at_again(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a silent Patroni nor a lost store ends it, and nothing is done on a guess."""
    node = Node()
    node.away = True
    keeper = PostgresKeeper(store, node, node, OWN, "127.83.2.11")
    keeping = asyncio.create_task(keeper.run())
    await asyncio.sleep(3)
    get = store.get

    async def lost(key: str) -> None:
        raise StoreUnavailable(key)

    node.away = False
    monkeypatch.setattr(store, "get", lost)
    await asyncio.sleep(3)
    assert node.told == []
    monkeypatch.setattr(store, "get", get)
    await asyncio.sleep(3)
    assert node.told == ["stop"]
    keeping.cancel()
    await asyncio.wait([keeping])


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (None, ["start 127.83.2.11"]),
        (b"{}", ["start 127.83.2.11"]),
        (b'{"leader":"a-1","member":"b-2"}', []),
    ],
)
async def test_a_failover_that_is_over_keeps_nobody_down(
    store: MemoryStore, wish: bytes | None, told: list[str]
) -> None:
    """Patroni empties its key and never deletes it: that is no pending failover any more."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":null}')
    if wish is not None:
        await store.put(keys.PATRONI_FAILOVER, wish)
    node = Node()
    node.standby, node.state = False, DOWN
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert node.told == told


@pytest.mark.looptime
@pytest.mark.parametrize("lives", [False, True])
async def test_a_failover_to_a_node_that_is_lost_keeps_nobody_down(
    store: MemoryStore, lives: bool
) -> None:
    """A primary stopped for it comes back; while the candidate is alive it may still take over."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":null}')
    await store.put(keys.PATRONI_FAILOVER, b'{"leader":"a-1","member":"b-2"}')
    if lives:
        await store.put(keys.patroni_member(OTHER), b"{}", await store.lease_grant(20))
    node = Node()
    node.standby, node.state = False, DOWN
    keeper = PostgresKeeper(store, node, node, OWN, "127.83.2.11")
    await keeper.run_once()
    await keeper.run_once()
    assert node.told == ([] if lives else ["start 127.83.2.11"])
    if lives:
        await asyncio.sleep(21)
        await keeper.run_once()
        await keeper.run_once()
        assert node.told == ["start 127.83.2.11"]
    assert await store.get(keys.PATRONI_FAILOVER) is None


@pytest.mark.parametrize("wish", [b"nonsense", b'{"member":["b-2"]}'])
@pytest.mark.parametrize(
    ("leader", "sync", "told"),
    [
        (None, b'{"leader":"a-1","sync_standby":"b-2"}', ["start 127.83.2.11"]),
        (OWN, b'{"leader":"a-1","sync_standby":null}', ["start 127.83.2.11"]),
        (OTHER, b'{"leader":"a-1","sync_standby":"b-2"}', []),
        (None, b'{"leader":"b-2","sync_standby":"a-1"}', []),
    ],
)
async def test_an_unreadable_failover_keeps_the_last_primary_down_only_beside_another(
    store: MemoryStore, wish: bytes, leader: str | None, sync: bytes, told: list[str]
) -> None:
    """Regression: the database stayed down for ever, and only the log of the service said why.

    The request is left for an administrator to see. A Patroni that followed an earlier one cannot
    write `/sync` any more, which it must do before it promotes.
    """
    await store.delete(keys.PATRONI_LEADER)
    if leader:
        await store.put(keys.PATRONI_LEADER, leader.encode())
    await store.put(keys.PATRONI_SYNC, sync)
    await store.put(keys.PATRONI_FAILOVER, wish)
    earlier = await store.get(keys.PATRONI_SYNC)
    assert earlier
    node = Node()
    node.standby, node.state = False, DOWN
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert node.told == told
    later, request = await store.get(keys.PATRONI_SYNC), await store.get(keys.PATRONI_FAILOVER)
    assert later
    assert later.value == sync
    assert (later.mod_revision > earlier.mod_revision) is bool(told)
    assert request
    assert request.value == wish


@pytest.mark.parametrize("taken", [keys.PATRONI_LEADER, keys.PATRONI_SYNC, keys.PATRONI_FAILOVER])
async def test_an_unreadable_failover_is_void_only_if_nothing_changes_meanwhile(
    store: MemoryStore, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may take over between the read and the start."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":"b-2"}')
    await store.put(keys.PATRONI_FAILOVER, b"nonsense")
    node = Node()
    node.standby, node.state = False, DOWN
    txn = store.txn

    async def late(*arguments: Any) -> Any:
        await txn([], [Put(taken, b'{"leader":"b-2"}')])
        return await txn(*arguments)

    monkeypatch.setattr(store, "txn", late)
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert node.told == []


async def test_an_unreadable_failover_is_not_void_once_another_is_the_last_primary(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been one that another node has just followed."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":"b-2"}')
    await store.put(keys.PATRONI_FAILOVER, b"nonsense")
    node = Node()
    node.standby, node.state = False, DOWN
    get = store.get

    async def taking_over(key: str) -> Any:
        found = await get(key)
        if key == keys.PATRONI_LEADER:  # the last that the keeper reads of the situation
            await store.put(keys.PATRONI_SYNC, b'{"leader":"b-2"}')
        return found

    monkeypatch.setattr(store, "get", taking_over)
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert node.told == []


@pytest.mark.parametrize(
    ("standby", "state"), [(True, DOWN), (False, STARTING), (False, STREAMING)]
)
async def test_a_failover_is_taken_back_only_where_it_keeps_a_primary_down(
    store: MemoryStore, standby: bool, state: PatroniNode
) -> None:
    """A standby, or a running server, does not need the request to be withdrawn."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_CONFIG, b'{"pause":true}')
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":null}')
    await store.put(keys.PATRONI_FAILOVER, b'{"leader":"a-1","member":"b-2"}')
    node = Node()
    node.standby, node.state = standby, state
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert await store.get(keys.PATRONI_FAILOVER) is not None


@pytest.mark.parametrize(
    ("member", "configured", "told"),
    [(OWN, True, []), ("new-4", True, ["start 127.83.2.11"]), (OWN, False, ["start 127.83.2.11"])],
)
async def test_the_configuration_says_who_is_out_of_service(
    store: MemoryStore, member: str, configured: bool, told: list[str]
) -> None:
    """A node that it does not name yet has to stream first, even where there is none."""
    if not configured:
        await store.delete(keys.CLUSTER)
    node = Node()
    node.state = DOWN
    await PostgresKeeper(store, node, node, member, "127.83.2.11").run_once()
    assert node.told == told


@pytest.mark.parametrize("taken", [keys.PATRONI_LEADER, keys.PATRONI_SYNC])
async def test_another_takes_over_while_the_own_state_is_looked_at(
    store: MemoryStore, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader and the last leader are read afterwards: outdated state starts no primary."""
    await store.delete(keys.PATRONI_LEADER)
    await store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":"b-2"}')
    node = Node()
    node.standby, node.state = False, DOWN
    look = node.node

    async def slow(address: str) -> PatroniNode:
        found = await look(address)
        value = OTHER.encode() if taken == keys.PATRONI_LEADER else b'{"leader":"b-2"}'
        await store.put(taken, value)
        return found

    monkeypatch.setattr(node, "node", slow)
    await PostgresKeeper(store, node, node, OWN, "127.83.2.11").run_once()
    assert node.told == []


@pytest.mark.looptime
async def test_what_cannot_be_stopped_is_stopped_again(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure does not end the keeper: the standby of a DISABLED cluster would stay up."""
    node = Node()

    async def breaks() -> bool:
        raise OSError("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(node, "stop", breaks)
        keeping = asyncio.create_task(PostgresKeeper(store, node, node, OWN, "127.83.2.11").run())
        await asyncio.sleep(3)
    assert node.told == []
    await asyncio.sleep(3)
    assert node.told == ["stop"]
    keeping.cancel()
    await asyncio.wait([keeping])


@pytest.mark.parametrize("forged", [False, True])
async def test_the_node_keeps_the_configuration_that_it_reads(forged: bool) -> None:
    """In every mode. A forged one ends nothing, and is not stored."""
    shared = SharedStore()
    await shared.store.put(keys.CLUSTER, b'{"name":"ours"}')
    await shared.store.put(keys.PATRONI_CONFIG, b"{}")
    if forged:
        await shared.raw.put(keys.CLUSTER, b'{"name":"theirs"}')
    shared.kept.value = None
    node = Node()
    await PostgresKeeper(shared.store, node, node, OWN, "127.83.2.11").run_once()
    assert (shared.kept.value is None) is forged
