"""Which node may be promoted by hand, and what that may cost."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.kept_cluster import kept
from tests.support.simulated.observations import PRIMARY, ObservationBuilder

from openvcha.api.structures import ClusterMode
from openvcha.cluster import preconditions
from openvcha.cluster.findings.health import assess
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.daemon.recovery.data_loss import Evidence, assess_data_loss
from openvcha.daemon.recovery.promotion_check import (
    Creation,
    NonMember,
    PatroniKeys,
    PromotionRefusal,
    assess_promotion,
    check_promotion,
    creation_of,
    gather_evidence,
    non_members,
    patroni_keys,
)
from openvcha.store import keys
from openvcha.store.errors import RecordInvalid
from openvcha.store.interface import KeyValue
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState

STOPPED = PatroniNode("replica", "stopped", 1, ())
OWN, OTHER = "b-2", "a-1"


@pytest.fixture
def world() -> ObservationBuilder:
    return ObservationBuilder()


def lost(world: ObservationBuilder) -> None:
    """Lose the other data node; its leader key has expired."""
    world.lose(OTHER)
    world.set(leader=None)


def still_leads(world: ObservationBuilder) -> None:
    world.lose(OTHER)


def cut_off_in_maintenance(world: ObservationBuilder) -> None:
    lost(world)
    world.configure(mode=ClusterMode.MAINTENANCE)


def writes_without_leading(world: ObservationBuilder) -> None:
    world.set(leader=None)


def broken(world: ObservationBuilder) -> None:
    world.set(leader=None)
    world.node(OTHER, patroni=STOPPED)


def broken_in_maintenance(world: ObservationBuilder) -> None:
    broken(world)
    world.configure(mode=ClusterMode.MAINTENANCE)


def disabled(world: ObservationBuilder) -> None:
    broken(world)
    world.configure(mode=ClusterMode.DISABLED)


def leads_itself(world: ObservationBuilder) -> None:
    world.set(leader=OWN)


def alone(world: ObservationBuilder) -> None:
    world.seen = replace(world.seen, nodes=world.seen.nodes[1:], leader=None)


@pytest.mark.parametrize(
    ("change", "word", "overridable"),
    [
        (lost, None, False),
        (broken, None, False),
        (broken_in_maintenance, None, False),
        (alone, None, False),
        (lambda _: None, "use the operation failover", False),
        (disabled, "its database is stopped", False),
        (leads_itself, "already the active", False),
        (still_leads, "holds the leader key", True),
        (writes_without_leading, "though it does not lead", True),
        (cut_off_in_maintenance, "keeps accepting writes", True),
    ],
)
def test_it_is_refused_while_another_primary_may_live(
    world: ObservationBuilder,
    change: Callable[[ObservationBuilder], None],
    word: str | None,
    overridable: bool,
) -> None:
    """A primary known to take writes cannot be overridden; one that may be running can."""
    change(world)
    found = check_promotion(world.seen, OWN)
    if word is None:
        assert found is None
        return
    assert isinstance(found, PromotionRefusal)
    assert word in found.reason
    assert found.overridable is overridable


@pytest.mark.parametrize(
    ("creation", "words"),
    [
        (None, ["not part of the cluster", "it was replaced"]),
        (
            Creation("redeploy (t-1)"),
            ["the task redeploy (t-1) is creating", "the task then continues", "make-standalone"],
        ),
        (Creation(None), ["did not finish", "Bring the active back. Only", "the witness too"]),
    ],
)
def test_who_is_no_node_of_the_cluster_is_refused(
    world: ObservationBuilder, creation: Creation | None, words: list[str]
) -> None:
    """Even where no other is running. Who may have the only copy is told how to keep it.

    Regression: during a redeploy the new node was said to be replaced, and nothing said what to do.
    """
    lost(world)
    found = check_promotion(world.seen, "unknown", (), creation)
    assert found
    assert all(word in found.reason for word in words)
    assert ("make-standalone" in found.reason) is (creation is not None)
    assert not found.overridable


def test_no_node_is_told_to_stand_alone_beside_an_active(world: ObservationBuilder) -> None:
    """The active's copy is newer."""
    found = check_promotion(world.seen, "unknown", (), Creation("redeploy (t-1)"))
    assert found
    assert "accepts writes" in found.reason
    assert "make-standalone" not in found.reason


@pytest.mark.parametrize(
    ("task", "member", "votes", "expected"),
    [
        ("new-4", "new-4", True, Creation("vcha.cluster.passive.redeploy (t-1)")),
        ("new-4", "new-4", False, Creation("vcha.cluster.passive.redeploy (t-1)")),
        ("other", "new-4", True, Creation(None)),
        (None, "new-4", True, Creation(None)),
        ("other", "new-4", False, None),
        (None, "new-4", False, None),
    ],
)
async def test_whether_a_node_is_still_being_created_is_asked_of_task_and_votes(
    task: str | None, member: str, votes: bool, expected: Creation | None
) -> None:
    """A task that failed may have left the node and its vote."""
    running = SimpleNamespace(
        id="t-1", operation_id="vcha.cluster.passive.redeploy", state={"passive": {"member": task}}
    )

    async def holder() -> Any:
        return running if task else None

    async def members() -> list[Any]:
        return [SimpleNamespace(name=member)] if votes else []

    services: Any = SimpleNamespace(
        journal=SimpleNamespace(running=holder), store=SimpleNamespace(members=members)
    )
    assert await creation_of(services, member) == expected


def led_by_a_stranger(world: ObservationBuilder) -> None:
    broken(world)
    world.set(leader="c-3")


@pytest.mark.parametrize(
    ("change", "others", "word"),
    [
        (lost, [], None),
        (lost, [NonMember("c-3", False)], None),
        (lost, [NonMember("c-3", None)], None),  # it neither leads nor answers
        (lost, [NonMember("c-3", True)], "c-3 accepts writes, but is no longer a node"),
        (
            led_by_a_stranger,
            [NonMember("c-3", True)],
            "c-3 accepts writes, but is no longer a node",
        ),
        (
            led_by_a_stranger,
            [NonMember("c-3", None)],
            "c-3 holds the leader key, is no longer a node",
        ),
        (led_by_a_stranger, [NonMember("c-3", False)], None),
        (still_leads, [NonMember("c-3", True)], "c-3 accepts writes"),
    ],
)
def test_a_node_that_is_not_configured_may_take_writes_too(
    world: ObservationBuilder,
    change: Callable[[ObservationBuilder], None],
    others: list[NonMember],
    word: str | None,
) -> None:
    """A person who knows better may override it: the way out where such a node leads."""
    change(world)
    found = check_promotion(world.seen, OWN, others)
    if word is None:
        assert found is None
        return
    assert isinstance(found, PromotionRefusal)
    assert word in found.reason
    assert found.overridable


@pytest.mark.parametrize(
    ("ttl", "text"), [(45, "the key 45 s after it was last"), (None, "once its ttl has passed")]
)
def test_until_when_the_key_is_held_is_told_by_patronis_ttl(
    world: ObservationBuilder, ttl: int | None, text: str
) -> None:
    """An operator waits that long before promoting; the default would be too short."""
    still_leads(world)
    world.set(leader_ttl=ttl)
    known = check_promotion(world.seen, OWN)
    led_by_a_stranger(world)
    stranger = check_promotion(world.seen, OWN, [NonMember("c-3", None)])
    assert known
    assert text in known.reason
    assert stranger
    assert text in stranger.reason


def test_a_stranger_makes_nothing_overridable_that_was_not(world: ObservationBuilder) -> None:
    """The configured active takes writes, whatever other nodes do."""
    found = check_promotion(world.seen, OWN, [NonMember("c-3", True)])
    assert found
    assert not found.overridable


@pytest.mark.parametrize("mode", ClusterMode)
@pytest.mark.parametrize("answers", [True, False, None])
def test_the_advice_about_a_stranger_that_leads_names_no_way_that_is_refused(
    world: ObservationBuilder, mode: ClusterMode, answers: bool | None
) -> None:
    """Whether or not it still responds. Regression: in DISABLED each way that was named refused."""
    world.node(OTHER, patroni=STOPPED)
    world.set(leader="c-3", sync=SyncState("c-3", frozenset({OWN})))
    world.configure(mode=mode)
    refusal = check_promotion(world.seen, OWN, [NonMember("c-3", answers)])
    may_promote = refusal is None or refusal.overridable
    advice = assess(world.seen).warnings[0].recommendation
    assert advice is not None
    text = advice.default_message
    may_fail_over = preconditions.why_not(preconditions.FAILOVER, world.seen) is None
    assert ("planned=false" in text) is may_fail_over
    assert ("vcha node promote" in text) is may_promote
    assert ("make-standalone" in text) is not may_promote
    if not may_promote:  # it is refused while any node responds
        assert "every other node" in text
        assert refusal
        assert "every other node" in refusal.reason


class Strange:
    """The Patronis by address; others do not answer."""

    def __init__(self, **nodes: PatroniNode) -> None:
        self.nodes = nodes

    async def node(self, host: str) -> PatroniNode:
        if host not in self.nodes:
            raise PatroniUnreachable(host)
        return self.nodes[host]


@pytest.mark.looptime
async def test_who_is_left_is_asked_at_the_address_that_its_patroni_told(
    world: ObservationBuilder,
) -> None:
    """Also a leader that published nothing; the cluster's own nodes are asked elsewhere."""
    store = MemoryStore()
    told = {
        OWN: b'{"api_url": "https://own:8008/patroni"}',
        "writes": b'{"api_url": "https://one:8008/patroni"}',
        "stands-by": b'{"api_url": "https://two:8008/patroni"}',
        "silent": b'{"api_url": "https://three:8008/patroni"}',
        "unreadable": b"{",
        "strange": b'{"api_url": "https://[x"}',
    }
    for name, value in told.items():
        await store.put(keys.patroni_member(name), value)
    services: Any = SimpleNamespace(
        store=store, patroni=Strange(own=PRIMARY, one=PRIMARY, two=STOPPED)
    )
    world.set(leader="leads")
    found = await non_members(services, world.seen)
    assert {one.name: one.writes for one in found} == {
        "leads": None,
        "silent": None,
        "stands-by": False,
        "strange": None,
        "unreadable": None,
        "writes": True,
    }


FOUND = PatroniKeys(b'{"optime": 1000}', b'{"pause": true, "ttl": 45}')


def test_what_is_known_is_gathered_from_the_store_the_node_and_what_it_kept(
    world: ObservationBuilder,
) -> None:
    """Its own Patroni is preferred; the kept records are used while its database is down."""
    lost(world)
    world.set(sync=SyncState(OTHER, frozenset({OWN})))
    streams = replace(STOPPED, lsn=900, last_row="2026-01-01 00:00:00.5+02:00")
    world.node(OWN, patroni=streams)
    known = kept(lsn=800, last_led="2026-01-01T00:00:00+00:00")
    found = gather_evidence(world.seen, OWN, FOUND, known, from_old_data=False)
    assert found == Evidence(
        mode=ClusterMode.ENABLED,
        paused=True,
        in_sync=True,
        active_lsn=1000,
        own_lsn=900,
        lease_held_until="2026-01-01T00:00:00+00:00",
        last_row="2025-12-31T22:00:00+00:00",
        leader_ttl=45,
    )
    world.node(OWN, patroni=STOPPED)
    assert gather_evidence(world.seen, OWN, FOUND, known, from_old_data=False).own_lsn == 800
    world.node(OWN, patroni=None)
    found = gather_evidence(world.seen, OWN, PatroniKeys(b"{", b"{"), None, from_old_data=True)
    assert (found.active_lsn, found.own_lsn, found.lease_held_until, found.from_old_data) == (
        None,
        None,
        None,
        True,
    )
    assert (found.paused, found.leader_ttl) == (None, None)


async def test_a_key_that_the_store_refuses_to_show_is_unknown() -> None:
    """A forged configuration; that does not mean that the store has no quorum."""

    class Refusing(MemoryStore):
        async def get(self, key: str) -> KeyValue | None:
            if key == keys.PATRONI_CONFIG:
                raise RecordInvalid(key, "forged")
            return await super().get(key)

    store = Refusing()
    await store.put(keys.PATRONI_STATUS, b"{}")
    await store.put(keys.PATRONI_HISTORY, b"[]")
    assert await patroni_keys(store) == PatroniKeys(b"{}", None, b"[]")


def test_a_sync_that_cannot_be_read_names_nobody_and_proves_nothing(
    world: ObservationBuilder,
) -> None:
    """Who was in sync is unknown, which does not mean that this node was not."""
    unpaused = PatroniKeys(None, b"{}")
    world.set(sync=SyncState(OTHER, frozenset({OWN})))
    assert assess_data_loss(
        gather_evidence(world.seen, OWN, unpaused, None, from_old_data=False)
    ).proven_none
    world.set(unreadable=(keys.PATRONI_SYNC,))
    found = assess_data_loss(gather_evidence(world.seen, OWN, unpaused, None, from_old_data=False))
    assert (found.proven_none, "cannot be read" in found.lines[0]) == (False, True)


@pytest.mark.parametrize(
    ("history", "timeline", "kept_timeline", "proven"),
    [
        (((2, OWN),), 3, None, True),
        (((1, OTHER), (2, OWN)), None, 3, True),
        (((1, OWN), (2, OTHER)), 3, None, False),  # it only follows the newest timeline
        (((2, OWN),), 2, None, False),  # it has lost that timeline's data
        (((2, OWN),), None, None, False),
        (((2, None),), 3, None, False),
        ((), 1, None, False),  # without a promotion nothing says who led
        (None, 3, None, False),
    ],
)
def test_who_began_the_newest_timeline_lacks_nothing_of_its_own(
    world: ObservationBuilder,
    history: tuple[tuple[int, str | None], ...] | None,
    timeline: int | None,
    kept_timeline: int | None,
    proven: bool,
) -> None:
    """No other node may have acknowledged anything since; `/sync` alone does not show it."""
    world.set(sync=SyncState(OWN, frozenset()))
    world.node(OWN, patroni=replace(STOPPED, lsn=1000, timeline=timeline))
    lines = [[before, 1, "why", "when", *([who] if who else [])] for before, who in history or ()]
    found = replace(FOUND, history=None if history is None else json.dumps(lines).encode())
    known = kept(timeline=kept_timeline) if kept_timeline else None
    evidence = gather_evidence(world.seen, OWN, found, known, from_old_data=False)
    assert evidence.named_leader
    assert assess_data_loss(evidence).proven_none is proven
    world.node(OWN, patroni=replace(STOPPED, lsn=999, timeline=timeline))
    evidence = gather_evidence(world.seen, OWN, found, known, from_old_data=False)
    assert not assess_data_loss(evidence).proven_none


PROVEN = Evidence(mode=ClusterMode.ENABLED, paused=False, in_sync=True)
UNKNOWN = Evidence(mode=None, paused=None, in_sync=None)
NEVER, RISK = (
    PromotionRefusal("it never is"),
    PromotionRefusal("another may live", overridable=True),
)


@pytest.mark.parametrize(
    ("refusal", "known", "refused", "risk", "requires_name"),
    [
        (None, PROVEN, None, None, False),
        (None, UNKNOWN, None, None, True),
        (RISK, PROVEN, None, "another may live", True),
        (RISK, UNKNOWN, None, "another may live", True),
        (NEVER, PROVEN, "it never is", None, False),
        (NEVER, UNKNOWN, "it never is", None, True),
    ],
)
def test_a_yes_is_enough_only_where_nothing_can_be_lost(
    refusal: PromotionRefusal | None, known: Evidence, refused: str, risk: str, requires_name: bool
) -> None:
    """Where rows may be lost, or another primary may run, the node's name must be typed."""
    found = assess_promotion(refusal, known)
    assert (found.refused, found.risk, found.requires_name) == (refused, risk, requires_name)
    assert found.lost == assess_data_loss(known)
