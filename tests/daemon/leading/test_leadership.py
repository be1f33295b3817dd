"""Leadership: read from the leader key, kept through an election, given up in time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.process import Process

from openvcha.api.structures import ConfigState
from openvcha.cluster.interface import PatroniAccess
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.daemon.leading.leader_proof import ALONE_SECONDS, LeaderProof
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.leading.leadership import (
    GRACE_SECONDS,
    POLL_SECONDS,
    STANDBY_SECONDS,
    Leadership,
)
from openvcha.node.address.interface.lifetime import UNPROVEN
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.patroni.rest import PatroniNode

pytestmark = pytest.mark.looptime

OWN = "vcha-1-old"
OTHER = "vcha-2-old"
TTL = 20


class LeadershipHarness:
    """A world, and one node's view of its own leadership."""

    def __init__(self) -> None:
        self.world = SimulatedCluster()
        self.seen: list[tuple[float, bool]] = []
        self.term = LeaderTerm()
        self.patroni: PatroniAccess | None = None
        self._following: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        a, b = await self.world.found("vcha-1", 1), await self.world.found("vcha-2", 2)
        await self.world.configure(ConfigState.CONFIGURED, a, b)
        services = Process(self.world, self.world.machine(OWN).identity).services
        self.store = services.store
        clock = asyncio.get_running_loop().time
        self.proof = LeaderProof(self.store.lease_remaining, TTL, clock)
        leadership = Leadership(
            services.store,
            self.patroni or services.patroni,
            services.identity,
            self.until_writable,
            proof=self.proof,
            term=self.term,
        )
        self._following = asyncio.create_task(self._follow(leadership))
        await asyncio.sleep(1)

    async def until_writable(self) -> None:
        machine = self.world.machine(OWN)
        if not machine.postgres:
            raise PostgresUnreachable("not there")
        while machine.postgres != "primary":  # noqa: ASYNC110 - as the real one asks
            await asyncio.sleep(0.01)

    async def _follow(self, leadership: Leadership) -> None:
        async for leads in leadership.changes():
            self.seen.append((asyncio.get_running_loop().time(), leads))

    async def end(self) -> None:
        await self.world.end()
        if self._following:
            self._following.cancel()
            await asyncio.wait([self._following])

    @property
    def proven(self) -> float:
        """Return for how long it is proven now that no other node can lead."""
        return self.proof.until - asyncio.get_running_loop().time()

    async def hold_key(self, member: str = OWN, lease_seconds: int = TTL) -> int:
        """Write the leader key with a lease, as Patroni does; return the lease."""
        lease = await self.world.store.lease_grant(lease_seconds)
        await self.world.store.put(keys.PATRONI_LEADER, member.encode(), lease)
        return lease

    @property
    def leads(self) -> bool:
        return self.seen[-1][1]


@pytest.fixture
async def harness() -> AsyncIterator[LeadershipHarness]:
    made = LeadershipHarness()
    yield made
    await made.end()


async def test_it_leads_when_the_key_names_it_and_it_takes_writes(
    harness: LeadershipHarness,
) -> None:
    """Not before, even when it holds the key already."""
    await harness.begin()
    assert harness.leads


@pytest.mark.parametrize(("leader", "seconds"), [(OWN, POLL_SECONDS), (OTHER, STANDBY_SECONDS)])
async def test_the_key_is_checked_more_often_by_who_leads(
    harness: LeadershipHarness, monkeypatch: pytest.MonkeyPatch, leader: str, seconds: float
) -> None:
    """To whom it matters that the store responds."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, leader.encode())
    await asyncio.sleep(5)
    read, checked = harness.store.get, []

    async def counted(key: str) -> KeyValue | None:
        checked.append(key)
        return await read(key)

    monkeypatch.setattr(harness.store, "get", counted)
    await asyncio.sleep(20 * seconds)
    assert 19 <= checked.count(keys.PATRONI_LEADER) <= 21


async def test_the_key_alone_makes_no_leader(harness: LeadershipHarness) -> None:
    """PostgreSQL must take writes before any client is sent to it."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(2)
    harness.world.machine(OWN).postgres = "starting"
    await harness.world.store.put(keys.PATRONI_LEADER, OWN.encode())
    await asyncio.sleep(5)
    assert not harness.leads
    harness.world.machine(OWN).postgres = "primary"
    await asyncio.sleep(1)
    assert harness.leads


async def test_it_leads_as_soon_as_it_takes_writes(harness: LeadershipHarness) -> None:
    """Clients wait for every moment in between."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(2)
    harness.world.machine(OWN).postgres = "streaming"
    await harness.world.store.put(keys.PATRONI_LEADER, OWN.encode())
    await asyncio.sleep(0.35)
    assert not harness.leads
    before = asyncio.get_running_loop().time()
    harness.world.machine(OWN).postgres = "primary"
    await asyncio.sleep(1)
    assert harness.leads
    assert harness.seen[-1][0] - before < 0.02


async def test_a_key_that_goes_on_before_it_takes_writes_makes_no_leader(
    harness: LeadershipHarness,
) -> None:
    """A promotion that came too late."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(2)
    harness.world.machine(OWN).postgres = "streaming"
    await harness.world.store.put(keys.PATRONI_LEADER, OWN.encode())
    await asyncio.sleep(0.35)
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    harness.world.machine(OWN).postgres = "primary"
    told = len(harness.seen)
    await asyncio.sleep(2)
    assert len(harness.seen) == told


@pytest.mark.parametrize("gone", [False, True])
async def test_it_ends_at_once_when_the_key_names_another_or_nobody(
    harness: LeadershipHarness, gone: bool
) -> None:
    """The key is watched, not polled."""
    await harness.begin()
    before = asyncio.get_running_loop().time()
    if gone:
        await harness.world.store.delete(keys.PATRONI_LEADER)
    else:
        await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(0.1)
    assert not harness.leads
    assert harness.seen[-1][0] - before < 0.05


class Silent:
    """Simulated: a Patroni that is busy and does not answer."""

    asked = 0

    async def node(self, address: str) -> PatroniNode:
        del address
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def wake(self, address: str) -> None:
        raise AssertionError(address)

    async def configure(self, address: str, change: object) -> None:
        raise AssertionError(address, change)


ALONE = PatroniNode("primary", "running", 1, (), alone=True)


class Choosing(Silent):
    """Simulated: a Patroni with a given answer, or none."""

    says: PatroniNode | None = None

    async def node(self, address: str) -> PatroniNode:
        if self.says is None:
            raise PatroniUnreachable(address)
        return self.says


async def test_a_change_overtakes_the_look_that_runs(harness: LeadershipHarness) -> None:
    """As the key is gone, its own Patroni is asked; a key held by another node settles it."""
    harness.patroni = silent = Silent()
    await harness.begin()
    await harness.world.store.delete(keys.PATRONI_LEADER)
    await asyncio.sleep(0.5)
    assert silent.asked
    assert harness.leads
    before = asyncio.get_running_loop().time()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(0.5)
    assert not harness.leads
    assert harness.seen[-1][0] - before < 0.05


async def test_a_change_says_enough_to_end(
    harness: LeadershipHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is not asked for what it has just sent."""
    await harness.begin()
    await harness.hold_key()
    await asyncio.sleep(3)
    assert harness.proven > 0
    monkeypatch.setattr(harness.store, "get", lambda _: asyncio.Event().wait())
    before = asyncio.get_running_loop().time()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(0.5)
    assert harness.proof.until == UNPROVEN
    assert not harness.leads
    assert harness.seen[-1][0] - before < 0.05


async def test_who_lost_the_key_and_has_it_again_leads_again(harness: LeadershipHarness) -> None:
    """A change tells of that moment only: before starting, the store is asked."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(0.5)
    await harness.world.store.put(keys.PATRONI_LEADER, OWN.encode())
    await asyncio.sleep(5)
    assert [leads for _, leads in harness.seen] == [False, True, False, True]


async def test_an_election_of_the_store_ends_no_leadership(harness: LeadershipHarness) -> None:
    """A short outage is no reason to disconnect every client."""
    await harness.begin()
    harness.world.faults.add("no quorum")
    await asyncio.sleep(GRACE_SECONDS / 2)
    harness.world.faults.discard("no quorum")
    await asyncio.sleep(GRACE_SECONDS)
    assert harness.leads
    assert len(harness.seen) == 2


async def test_without_a_store_it_ends_before_another_may_lead(harness: LeadershipHarness) -> None:
    """Patroni's key outlives its holder by at most 20 s: leadership ends well before."""
    await harness.begin()
    before = asyncio.get_running_loop().time()
    harness.world.faults.add("no quorum")
    await asyncio.sleep(20)
    assert not harness.leads
    assert harness.seen[-1][0] - before < 12


async def test_where_nobody_else_may_lead_it_goes_on_alone(harness: LeadershipHarness) -> None:
    """In such a mode the active serves although all others are lost, as its Patroni reports."""
    await harness.begin()
    harness.world.going_by[OWN] = frozenset({keys.PAUSE, keys.ALONE})
    harness.world.faults.add("no quorum")
    await asyncio.sleep(60)
    assert harness.leads


async def test_a_pause_alone_is_not_enough_to_go_on_alone(harness: LeadershipHarness) -> None:
    """As on the way back to ENABLED: another node may lead soon."""
    await harness.begin()
    harness.world.going_by[OWN] = frozenset({keys.PAUSE})
    harness.world.faults.add("no quorum")
    await asyncio.sleep(20)
    assert not harness.leads


async def test_a_key_that_ran_out_meanwhile_ends_nothing_when_it_went_on_alone(
    harness: LeadershipHarness,
) -> None:
    """The store comes back without the key, and Patroni needs a moment to acquire it again."""
    await harness.begin()
    harness.world.going_by[OWN] = frozenset({keys.PAUSE, keys.ALONE})
    await harness.world.store.delete(keys.PATRONI_LEADER)
    await asyncio.sleep(5)
    assert harness.leads
    harness.world.machine(OWN).postgres = "stopped"
    await asyncio.sleep(2)
    assert not harness.leads


async def test_that_it_went_on_alone_once_counts_in_that_outage_only(
    harness: LeadershipHarness,
) -> None:
    """Back in ENABLED, with store and Patroni silent, it would keep the address for ever."""
    harness.patroni = chosen = Choosing()
    await harness.begin()
    chosen.says = ALONE
    harness.world.faults.add("no quorum")
    await asyncio.sleep(60)
    assert harness.leads
    harness.world.faults.discard("no quorum")
    await asyncio.sleep(5)
    chosen.says = None
    before = asyncio.get_running_loop().time()
    harness.world.faults.add("no quorum")
    await asyncio.sleep(60)
    assert not harness.leads
    assert harness.seen[-1][0] - before < 12


async def test_in_one_outage_a_silent_patroni_is_made_up_for_by_postgresql(
    harness: LeadershipHarness,
) -> None:
    """Patroni may be restarting; but only while PostgreSQL itself takes writes."""
    harness.patroni = chosen = Choosing()
    await harness.begin()
    chosen.says = ALONE
    harness.world.faults.add("no quorum")
    await asyncio.sleep(20)
    chosen.says = None
    await asyncio.sleep(60)
    assert harness.leads
    harness.world.machine(OWN).postgres = "stopped"
    await asyncio.sleep(10)
    assert not harness.leads


async def test_who_went_on_alone_ends_when_another_leads(harness: LeadershipHarness) -> None:
    """Another node's key counts for more than its own Patroni."""
    await harness.begin()
    harness.world.going_by[OWN] = frozenset({keys.PAUSE, keys.ALONE})
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(2)
    assert not harness.leads


async def test_who_never_led_does_not_begin_without_a_store(harness: LeadershipHarness) -> None:
    """Without knowledge it does not serve."""
    await harness.begin()
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(1)
    harness.world.faults.add("no quorum")
    await asyncio.sleep(60)
    assert not harness.leads


async def test_the_lease_of_the_key_proves_how_long_it_leads(harness: LeadershipHarness) -> None:
    """Not that it was renewed once: what remains of it."""
    await harness.begin()
    lease = await harness.hold_key()
    begun = asyncio.get_running_loop().time()
    await asyncio.sleep(10)
    assert harness.proof.until <= begun + TTL
    assert harness.proven > TTL - 10 - 2
    await harness.world.store.lease_keep_alive(lease)
    await asyncio.sleep(1.5)
    assert TTL - 3 < harness.proven <= TTL


async def test_a_proof_outlasts_the_store_but_not_the_lease(harness: LeadershipHarness) -> None:
    """Whoever is cut off knows no more than before."""
    await harness.begin()
    await harness.hold_key()
    await asyncio.sleep(3)
    until = harness.proof.until
    harness.world.faults.add("no quorum")
    await asyncio.sleep(5)
    assert harness.proof.until == until
    await asyncio.sleep(20)
    assert harness.proven < 0


@pytest.mark.parametrize("gone", [False, True])
async def test_a_key_that_another_holds_or_nobody_proves_nothing(
    harness: LeadershipHarness, gone: bool
) -> None:
    """At once: this is how a node hands over."""
    await harness.begin()
    await harness.hold_key()
    await asyncio.sleep(3)
    assert harness.proven > 0
    if gone:
        await harness.world.store.delete(keys.PATRONI_LEADER)
    else:
        await harness.hold_key(OTHER)
    await asyncio.sleep(0.05)
    assert harness.proof.until == UNPROVEN
    await asyncio.sleep(5)
    assert harness.proof.until == UNPROVEN


async def test_where_nobody_else_may_lead_that_is_the_proof(harness: LeadershipHarness) -> None:
    """The public address stays with an active that goes on alone."""
    await harness.begin()
    harness.world.going_by[OWN] = frozenset({keys.PAUSE, keys.ALONE})
    harness.world.faults.add("no quorum")
    await asyncio.sleep(60)
    assert ALONE_SECONDS - 5 < harness.proven <= ALONE_SECONDS
    harness.world.going_by[OWN] = frozenset()
    await asyncio.sleep(ALONE_SECONDS + 5)
    assert harness.proven < 0


async def test_its_term_is_the_revision_of_the_leader_key_and_grows(
    harness: LeadershipHarness,
) -> None:
    """It entitles the node to the public address, before it takes the address."""
    await harness.begin()
    first = await harness.world.store.get(keys.PATRONI_LEADER)
    assert first is not None
    assert harness.term.revision == first.mod_revision
    await harness.world.store.put(keys.PATRONI_LEADER, OTHER.encode())
    await asyncio.sleep(2)
    assert harness.term.revision == first.mod_revision
    again = await harness.world.store.put(keys.PATRONI_LEADER, OWN.encode())
    await asyncio.sleep(2)
    assert harness.leads
    assert harness.term.revision == again > first.mod_revision
