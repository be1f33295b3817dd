"""Promoting a node by hand: it takes over, or everything stays as it was."""

import asyncio
import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.observations import PRIMARY, ObservationBuilder

from openvcha.cluster.patroni_client import PatroniUnreachable, leader, sync_state
from openvcha.daemon.recovery import promotion
from openvcha.daemon.recovery.promotion import Grant, PromotionOutcome, promote, revoke
from openvcha.daemon.recovery.promotion_check import (
    assess_promotion,
    check_promotion,
    gather_evidence,
    patroni_keys,
)
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import Put, absent, unchanged, value_is
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState

pytestmark = pytest.mark.looptime
OWN, OTHER = "b-2", "a-1"
STANDBY = PatroniNode("replica", "running", 1, ())
SYNC = json.dumps({"leader": OTHER, "sync_standby": OWN, "quorum": 0}).encode()
STATUS = b'{"optime": 1000}'
TTL = 20
WAYS = pytest.mark.parametrize("paused", [False, True])


class Patroni:
    """A stand-in that handles the keys as Patroni does: it acts a moment after it has read them.

    ``stops`` says at which point it freezes: then it neither answers nor renews its lease.
    """

    def __init__(self, store: MemoryStore, *, paused: bool, stops: str = "") -> None:
        self.store = store
        self.paused = paused
        self.stops = stops
        self.frozen = False
        self.primary = False
        self.lease = 0

    async def node(self, _: str) -> PatroniNode:
        if self.frozen:
            raise PatroniUnreachable("frozen")
        return PRIMARY if self.primary else STANDBY

    async def register(self) -> None:
        self.lease = await self.store.lease_grant(TTL)
        await self.store.put(keys.patroni_member(OWN), b"{}", self.lease)

    async def run(self) -> None:
        while not self.frozen:
            await self.store.lease_keep_alive(self.lease)
            await self.cycle()
            await asyncio.sleep(1)

    async def cycle(self) -> None:
        holds = await leader(self.store)
        wish = await self.store.get(keys.PATRONI_FAILOVER)
        wanted = wish is not None and json.loads(wish.value).get("member") == OWN
        if holds == OWN and self.paused and not self.primary:
            await self.store.delete(keys.PATRONI_LEADER)
        elif holds is None and wanted:
            await self.acquire()
        elif holds == OWN and not self.primary:
            await self.begin()

    async def acquire(self) -> None:
        if self.freeze("before the key"):
            return
        taken = [Put(keys.PATRONI_LEADER, OWN.encode(), self.lease)]
        if (await self.store.txn([absent(keys.PATRONI_LEADER)], taken)).succeeded:
            await self.store.put(keys.PATRONI_FAILOVER, b"{}")
            await self.begin()

    async def begin(self) -> None:
        sync = await self.store.get(keys.PATRONI_SYNC)
        await asyncio.sleep(0.1)
        if self.freeze("before /sync"):
            return
        alone = json.dumps({"leader": OWN, "sync_standby": None}).encode()
        same = [unchanged(sync)] if sync else []
        written = await self.store.txn(same, [Put(keys.PATRONI_SYNC, alone)])
        self.primary = written.succeeded and not self.freeze("before the promotion")

    def freeze(self, point: str) -> bool:
        self.frozen = self.frozen or self.stops == point
        return self.frozen


class ClusterWithoutActive:
    """A cluster whose active is lost, seen from its passive in sync."""

    def __init__(self, *, paused: bool, stops: str = "") -> None:
        self.paused = paused
        self.store = MemoryStore()
        self.patroni = Patroni(self.store, paused=paused, stops=stops)
        world = ObservationBuilder()
        world.lose(OTHER)
        world.set(leader=None, sync=SyncState(OTHER, frozenset({OWN})))
        self.seen = world.seen

    @property
    def services(self) -> Any:
        identity = SimpleNamespace(member=OWN, ha_address="127.83.2.12")
        return SimpleNamespace(store=self.store, patroni=self.patroni, identity=identity)

    async def begin(self) -> asyncio.Task[None]:
        await self.store.put(keys.PATRONI_SYNC, SYNC)
        await self.store.put(keys.PATRONI_STATUS, STATUS)
        await self.store.put(keys.PATRONI_CONFIG, json.dumps({"pause": self.paused}).encode())
        await self.patroni.register()
        return asyncio.create_task(self.patroni.run())

    async def validate_as_before(self) -> None:
        """Check that the former active may lead, and that no other node is asked to."""
        assert await leader(self.store) is None
        wish = await self.store.get(keys.PATRONI_FAILOVER)
        assert wish is None or wish.value == b"{}"
        assert await sync_state(self.store) == SyncState(OTHER, frozenset({OWN}))
        status = await self.store.get(keys.PATRONI_STATUS)
        assert status
        assert status.value == STATUS


@WAYS
async def test_it_takes_over(paused: bool) -> None:
    """Patroni itself writes the leader key for good."""
    cluster = ClusterWithoutActive(paused=paused)
    running = await cluster.begin()
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.LEADS
    assert cluster.patroni.primary
    assert await leader(cluster.store) == OWN
    assert await sync_state(cluster.store) == SyncState(OWN, frozenset())
    running.cancel()


@WAYS
@pytest.mark.parametrize("silent", ["answer", "key"])
async def test_what_cannot_take_over_is_found_before_anything_is_changed(
    paused: bool, silent: str
) -> None:
    """A Patroni that hangs: it does not answer, and soon its key in the store expires."""
    cluster = ClusterWithoutActive(paused=paused)
    (await cluster.begin()).cancel()
    if silent == "answer":
        cluster.patroni.frozen = True
    else:
        await cluster.store.delete(keys.patroni_member(OWN))
    before = cluster.store.revision
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.PATRONI_SILENT
    assert cluster.store.revision == before


@WAYS
async def test_a_patroni_that_is_just_starting_is_waited_for(paused: bool) -> None:
    """One failed look decides nothing."""
    cluster = ClusterWithoutActive(paused=paused)
    (await cluster.begin()).cancel()
    cluster.patroni.frozen = True
    promoting = asyncio.create_task(promote(cluster.services, cluster.seen))
    await asyncio.sleep(5)
    cluster.patroni.frozen = False
    running = asyncio.create_task(cluster.patroni.run())
    assert await promoting is PromotionOutcome.LEADS
    running.cancel()


@pytest.mark.parametrize(
    ("paused", "stops"),
    [(True, "before the key"), (True, "before /sync"), (False, "before /sync")],
)
async def test_a_node_that_is_lost_meanwhile_leaves_nothing_behind(
    paused: bool, stops: str
) -> None:
    """The former active leads when it comes back; the lost node finds no old request."""
    cluster = ClusterWithoutActive(paused=paused, stops=stops)
    await cluster.begin()
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.UNCHANGED
    await cluster.validate_as_before()


@WAYS
async def test_what_has_begun_is_not_taken_back(paused: bool) -> None:
    """From then on PostgreSQL may take writes at any moment: only the node itself may lead."""
    cluster = ClusterWithoutActive(paused=paused, stops="before the promotion")
    await cluster.begin()
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.LOST
    assert await sync_state(cluster.store) == SyncState(OWN, frozenset())


class Idle(Patroni):
    """A Patroni that runs and never takes over."""

    async def cycle(self) -> None:
        pass


@WAYS
async def test_a_node_that_lives_and_does_not_take_over_is_not_left_with_the_right(
    paused: bool,
) -> None:
    """Its time is up after a minute; otherwise its Patroni would keep the leader key for good."""
    cluster = ClusterWithoutActive(paused=paused)
    cluster.patroni = Idle(cluster.store, paused=paused)
    running = await cluster.begin()
    began = asyncio.get_running_loop().time()
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.UNCHANGED
    assert asyncio.get_running_loop().time() - began >= promotion.PROMOTE_SECONDS
    await cluster.validate_as_before()
    running.cancel()


@WAYS
async def test_interrupted_by_hand_it_takes_back_what_it_gave(paused: bool) -> None:
    """Even in the middle of the wait."""
    cluster = ClusterWithoutActive(paused=paused)
    cluster.patroni = Idle(cluster.store, paused=paused)
    running = await cluster.begin()
    promoting = asyncio.create_task(promote(cluster.services, cluster.seen))
    await asyncio.sleep(30)
    promoting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await promoting
    await cluster.validate_as_before()
    running.cancel()


class Killed(BaseException):
    """Ends the command's process."""


class Mortal:
    """The command's access to the store; it dies after some calls."""

    def __init__(self, store: MemoryStore, calls: int) -> None:
        self._store = store
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def called(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return await method(*arguments, **options)

        return called


@WAYS
@pytest.mark.parametrize("stops", ["before /sync", "at once", ""])
async def test_killed_at_any_moment_it_leaves_a_new_leader_or_nothing(
    paused: bool, stops: str
) -> None:
    """What is left expires without being revoked, whether the node runs or not."""
    ended = set()
    for calls in range(40):
        cluster = ClusterWithoutActive(paused=paused, stops=stops)
        running = await cluster.begin()
        services = cluster.services
        services.store = Mortal(cluster.store, calls)
        try:
            outcome = await promote(services, cluster.seen)
        except Killed:
            outcome = None
        cluster.patroni.frozen = cluster.patroni.frozen or stops == "at once"
        await asyncio.sleep(2 * TTL)
        led = await leader(cluster.store) == OWN
        assert led == cluster.patroni.primary or stops == "at once"
        if not led and not cluster.patroni.primary:
            await cluster.validate_as_before()
        ended.add((outcome, led))
        running.cancel()
    assert len(ended) > 1 or stops


async def granted(cluster: ClusterWithoutActive) -> Grant:
    """Do what the command does first, until it would wait."""
    lives = await cluster.store.get(keys.patroni_member(OWN))
    assert lives
    grant = await promotion._grant(cluster.store, cluster.seen, lives)
    assert grant
    return grant


@pytest.mark.parametrize("first", ["patroni", "command"])
async def test_of_taking_over_and_taking_back_only_one_succeeds(first: str) -> None:
    """At the very moment its time is up: Patroni has read the keys already."""
    cluster = ClusterWithoutActive(paused=False)
    cluster.patroni = Idle(cluster.store, paused=False)
    running = await cluster.begin()
    grant = await granted(cluster)
    beginning = asyncio.create_task(cluster.patroni.begin())
    await asyncio.sleep(0.05 if first == "command" else 0.2)
    outcome = await revoke(cluster.services, grant)
    await beginning
    if first == "command":
        assert (outcome, cluster.patroni.primary) == (PromotionOutcome.UNCHANGED, False)
        await cluster.validate_as_before()
    else:
        assert (outcome, cluster.patroni.primary) == (PromotionOutcome.LEADS, True)
        assert await leader(cluster.store) == OWN
    running.cancel()


async def test_a_wish_that_was_read_before_it_was_taken_back_is_noticed() -> None:
    """Under a pause Patroni may take the key a moment later: the outcome is the final one."""
    cluster = ClusterWithoutActive(paused=True)
    cluster.patroni = Idle(cluster.store, paused=True)
    running = await cluster.begin()
    grant = await granted(cluster)
    taking = asyncio.create_task(revoke(cluster.services, grant))
    await asyncio.sleep(0.5)
    await cluster.patroni.acquire()
    assert await taking in {PromotionOutcome.PROMOTING, PromotionOutcome.LEADS}
    assert await leader(cluster.store) == OWN
    running.cancel()


@pytest.mark.parametrize("changed", ["leader", "sync"])
async def test_nothing_is_written_when_it_is_not_as_it_was_seen(changed: str) -> None:
    """The person agreed to another situation: a node leads, or this one fell behind."""
    cluster = ClusterWithoutActive(paused=False)
    running = await cluster.begin()
    running.cancel()
    if changed == "leader":
        await cluster.store.put(keys.PATRONI_LEADER, OTHER.encode())
    else:
        await cluster.store.put(keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":null}')
    before = cluster.store.revision
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.CHANGED
    assert cluster.store.revision == before


@WAYS
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (keys.PATRONI_LEADER, OTHER.encode()),
        (keys.PATRONI_SYNC, b'{"leader":"a-1","sync_standby":null}'),
    ],
)
async def test_nothing_is_written_when_it_changes_at_that_very_moment(
    paused: bool, key: str, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between look and transaction, which must have the conditions."""
    cluster = ClusterWithoutActive(paused=paused)
    running = await cluster.begin()
    running.cancel()

    async def late(*parts: Any) -> Any:
        monkeypatch.undo()
        await cluster.store.put(key, value)
        return await cluster.store.txn(*parts)

    monkeypatch.setattr(cluster.store, "txn", late)
    assert await promote(cluster.services, cluster.seen) is PromotionOutcome.CHANGED
    found = await cluster.store.get(key)
    assert found is not None
    assert found.value == value
    assert await cluster.store.get(keys.PATRONI_FAILOVER) is None


async def test_a_lost_active_that_holds_its_key_still_loses_it() -> None:
    """If a person confirmed that its machine is off. It cannot write ``/sync`` any more."""
    cluster = ClusterWithoutActive(paused=False)
    cluster.patroni = Idle(cluster.store, paused=False)
    running = await cluster.begin()
    await cluster.store.put(keys.PATRONI_LEADER, OTHER.encode())
    read = await cluster.store.get(keys.PATRONI_SYNC)
    assert read
    lives = await cluster.store.get(keys.patroni_member(OWN))
    assert lives
    seen = replace(cluster.seen, leader=OTHER)
    assert await promotion._grant(cluster.store, seen, lives)
    alone = b'{"leader":"a-1","sync_standby":null}'
    late = await cluster.store.txn([unchanged(read)], [Put(keys.PATRONI_SYNC, alone)])
    assert not late.succeeded
    assert (await cluster.store.txn([value_is(keys.PATRONI_LEADER, OWN.encode())], [])).succeeded
    running.cancel()


@WAYS
async def test_a_store_that_is_away_for_a_moment_ends_nothing(
    paused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An election in the middle of the wait."""
    cluster = ClusterWithoutActive(paused=paused)
    cluster.patroni = Idle(cluster.store, paused=paused)
    running = await cluster.begin()
    promoting = asyncio.create_task(promote(cluster.services, cluster.seen))
    await asyncio.sleep(2)
    get = cluster.store.get

    async def away(key: str) -> None:
        raise StoreUnavailable(key)

    monkeypatch.setattr(cluster.store, "get", away)
    await asyncio.sleep(2)
    monkeypatch.setattr(cluster.store, "get", get)
    running.cancel()
    cluster.patroni.primary = True
    await cluster.store.put(keys.PATRONI_LEADER, OWN.encode(), cluster.patroni.lease)
    assert await promoting is PromotionOutcome.LEADS


@WAYS
async def test_a_node_that_only_got_the_key_is_not_said_to_have_every_row(paused: bool) -> None:
    """Regression: promoted a second time, a node out of sync asked for no name.

    Patroni names it in `/sync` before its database is promoted.
    """
    cluster = ClusterWithoutActive(paused=paused, stops="before the promotion")
    running = await cluster.begin()
    await promote(cluster.services, cluster.seen)
    sync = await sync_state(cluster.store)
    assert sync.leader == OWN
    world = ObservationBuilder()
    world.lose(OTHER)
    world.set(leader=None, sync=sync)
    world.node(OWN, patroni=replace(STANDBY, lsn=900))
    found = await patroni_keys(cluster.store)
    evidence = gather_evidence(world.seen, OWN, found, None, from_old_data=False)
    judged = assess_promotion(check_promotion(world.seen, OWN), evidence)
    assert judged.requires_name
    assert "100 bytes of write-ahead log are missing" in " ".join(judged.lost.lines)
    running.cancel()
