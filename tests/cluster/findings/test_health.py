"""The cluster's state is a pure function of the observation, and every fault has its reason."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.simulated.observations import NOW, PRIMARY, STREAMING, ObservationBuilder, ip

from openvcha.api.structures import ClusterMode, ClusterState
from openvcha.cluster import modes
from openvcha.cluster.findings.health import assess
from openvcha.cluster.findings.warnings import (
    CLOCK_SECONDS,
    GIB,
    LAG_BYTES,
    MAX_SHOWN_CHARACTERS,
    MAX_SHOWN_ITEMS,
)
from openvcha.cluster.observing.observation import Lag
from openvcha.cluster.observing.store_space import StoreSpace
from openvcha.node.address.state import HELD, NOBODY, cannot, conflict
from openvcha.node.identity import Timers
from openvcha.store.address_reports import AddressState
from openvcha.store.node_facts import Override, PostgresFacts, PostgresTrouble, RefusalCause
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState

LIMIT = Timers().replication_lag
PREFIX = "com.vmware.vcenter.vcha."


def reasons(world: ObservationBuilder) -> set[str]:
    """Return what degrades the cluster; every finding has an error and a recommendation."""
    found = assess(world.seen)
    assert all(w.error.default_message and w.recommendation for w in found.warnings)
    names = {w.error.id.removeprefix(PREFIX) for w in found.warnings}
    assert bool(names) is (found.state is not ClusterState.HEALTHY)
    return names


def test_three_connected_nodes_in_sync_are_healthy(world: ObservationBuilder) -> None:
    """A healthy cluster has no findings."""
    assert reasons(world) == set()


@pytest.mark.parametrize("member", ["b-2", "w-3"])
def test_a_lost_node_is_named_with_what_to_do(world: ObservationBuilder, member: str) -> None:
    """A node that does not answer makes it DEGRADED, with a recommendation."""
    world.lose(member)
    assert {"node.lost", "quorum.no.margin"} <= reasons(world)


def test_a_node_without_a_vote_is_lost_even_if_it_answers(world: ObservationBuilder) -> None:
    """Without its vote a node does not help in a failover, and a start does not restore it."""
    world.node("w-3", voter=False)
    assert "node.lost" in reasons(world)
    (lost,) = (w for w in assess(world.seen).warnings if w.error.id == f"{PREFIX}node.lost")
    assert lost.recommendation
    assert lost.recommendation.id == f"{PREFIX}node.removed.recommendation"


def test_streaming_is_not_yet_protection(world: ObservationBuilder) -> None:
    """Only a passive that /sync names may take over without loss."""
    world.set(sync=SyncState("a-1", frozenset()))
    assert reasons(world) == {"replication.not.in.sync"}


def test_a_sync_key_of_another_leader_protects_nobody(world: ObservationBuilder) -> None:
    """/sync only counts for the leader that wrote it."""
    world.set(sync=SyncState("b-2", frozenset({"b-2"})))
    assert reasons(world) == {"replication.not.in.sync"}


def test_a_standby_that_does_not_stream_is_told_apart(world: ObservationBuilder) -> None:
    """Stopped replication is a different fault from replication that catches up."""
    world.node("b-2", patroni=PatroniNode("replica", "running", 1, ()))
    assert reasons(world) == {"replication.stopped"}


def test_no_leader_is_a_fault(world: ObservationBuilder) -> None:
    """No node takes writes: that must come first."""
    world.set(leader=None)
    assert "no.active" in reasons(world)


def test_an_active_that_takes_no_writes_is_a_fault(world: ObservationBuilder) -> None:
    """The leader key alone makes no node active: PostgreSQL has to take writes."""
    world.node("a-1", patroni=PatroniNode("primary", "starting", 1, ()))
    assert "no.active" in reasons(world)


def test_an_active_without_its_vote_is_a_fault(world: ObservationBuilder) -> None:
    """Two votes of three suffice, but one more loss would stop everything."""
    world.node("a-1", etcd_answers=False)
    assert reasons(world) == {"active.no.vote", "quorum.no.margin"}


def test_disabled_mode_wants_no_replication(world: ObservationBuilder) -> None:
    """In DISABLED the standby is down on purpose."""
    world.configure(mode=ClusterMode.DISABLED)
    world.node("b-2", patroni=None)
    settings = modes.SETTINGS[ClusterMode.DISABLED]
    world.set(sync=SyncState(None, frozenset()), settings=settings)
    assert reasons(world) == set()


def out_of_sync(world: ObservationBuilder) -> None:
    world.set(sync=SyncState("a-1", frozenset()))


def test_a_passive_out_of_sync_that_lags_is_told_with_bytes_and_seconds(
    world: ObservationBuilder,
) -> None:
    """The lag is why it is not in sync, and its size says whether to wait."""
    out_of_sync(world)
    world.set(lags=(Lag("b-2", LAG_BYTES + 1, 3.25),))
    assert reasons(world) == {"replication.lagging"}
    (warning,) = assess(world.seen).warnings
    assert warning.error.args == ("vcha-2", str(LAG_BYTES + 1), "3.2")


def test_how_late_a_passive_may_be_is_a_setting(world: ObservationBuilder) -> None:
    """An observation carries the limit of its node."""
    world.set(lags=(Lag("b-2", 1, 3.25),))
    assert reasons(world) == set()
    world.set(lag_limit=3.0)
    assert {w.error.id.removeprefix(PREFIX) for w in assess(world.seen).warnings} == {
        "replication.lagging"
    }


def test_one_vote_less_than_three_leaves_no_margin(world: ObservationBuilder) -> None:
    """After a fence two members vote and answer, but one more loss stops the store."""
    world.node("w-3", voter=False)
    (warning,) = [w for w in assess(world.seen).warnings if w.error.id.endswith("no.margin")]
    assert warning.error.args == ("2", "2")


def lag(bytes_behind: int, seconds: float) -> Callable[[ObservationBuilder], None]:
    return lambda world: world.set(lags=(Lag("b-2", bytes_behind, seconds),))


def told(member: str, **facts: object) -> Callable[[ObservationBuilder], None]:
    return lambda world: world.tell(member, **facts)


def clock(off: float) -> Callable[[ObservationBuilder], None]:
    return lambda world: world.hear("w-3", clock_offset=off)


def address(text: str) -> Callable[[ObservationBuilder], None]:
    def change(world: ObservationBuilder) -> None:
        node = world.seen.node("b-2")
        assert node is not None
        world.node("b-2", config=msgspec.structs.replace(node.config, failover_ip=ip(text)))

    return change


def real(version: str, ha_address: str = "192.0.2.13") -> Callable[[ObservationBuilder], None]:
    """Put the witness at an address of a real network, with an etcd of this version."""

    def change(world: ObservationBuilder) -> None:
        for node in world.seen.nodes:
            told(node.config.member, versions={"etcd": version})(world)
        witness = world.seen.node("w-3")
        assert witness is not None
        world.node("w-3", config=msgspec.structs.replace(witness.config, ha_ip=ip(ha_address)))

    return change


SOON, LATER = NOW + timedelta(days=29), NOW + timedelta(days=31)

THREATS: list[tuple[str, Callable[[ObservationBuilder], None], str | None, tuple[str, ...]]] = [
    ("lag in bytes", lag(LAG_BYTES + 1, 1.0), "replication.lagging", ("vcha-2",)),
    ("lag in seconds", lag(1, LIMIT + 1), "replication.lagging", ("vcha-2", "1", "11.0")),
    ("little lag", lag(LAG_BYTES, LIMIT), None, ()),
    ("disk below all", told("b-2", disk_free=GIB - 1), "disk.nearly.full", ("vcha-2",)),
    ("disk below 5 %", told("b-2", disk_free=4 * GIB), "disk.nearly.full", ("vcha-2",)),
    ("disk of 5 %", told("b-2", disk_free=5 * GIB), None, ()),
    ("large disk", told("b-2", disk_free=10 * GIB, disk_total=900 * GIB), None, ()),
    ("small disk", told("b-2", disk_free=GIB, disk_total=2 * GIB), None, ()),
    ("node's", told("w-3", certificate_until=SOON), "certificate.expires", ("node", "vcha-3")),
    ("API's", told("a-1", api_certificate_until=SOON), "certificate.expires", ("API", "vcha-1")),
    ("expired", told("w-3", certificate_until=NOW), "certificate.expires", ("node", "vcha-3")),
    ("valid", told("w-3", certificate_until=LATER), None, ()),
    ("clock ahead", clock(CLOCK_SECONDS + 0.1), "clock.skew", ("vcha-3", "+2.1")),
    ("clock behind", clock(-CLOCK_SECONDS - 0.1), "clock.skew", ("vcha-3", "-2.1")),
    ("clock near", clock(-CLOCK_SECONDS), None, ()),
    ("versions", told("b-2", versions={"patroni": "4.0"}), "versions.differ", ("patroni",)),
    (
        "another address",
        address("127.83.1.99"),
        "failover.address",
        ("vcha-2", "127.83.1.99", "127.83.1.10"),
    ),
    ("an etcd that leaks", real("3.4.23"), "etcd.old", ("vcha-3", "3.4.23")),
    ("an etcd that loses", real("3.5.2"), "etcd.old", ("vcha-3", "3.5.2")),
    ("a good etcd", real("3.5.3"), None, ()),
    ("an old etcd in a lab", real("3.4.23", "127.83.2.13"), None, ()),
    ("an etcd of no version", real("3.4\x1b[2J.1"), None, ()),
    ("the same address", address("127.83.1.10"), None, ()),
    (
        "no helper",
        lambda world: world.hear("b-2", address=cannot("its helper is silent")),
        "address.passive",
        ("vcha-2", "127.83.1.10", "its helper is silent"),
    ),
    (
        "refused",
        lambda world: world.refuse("postgresql.callbacks", "\x1b[2J"),
        "patroni.setting.refused",
        ("postgresql.callbacks, \\x1b[2J",),
    ),
    (
        "another ttl",
        lambda world: world.set(leader_ttl=60, node_leader_ttl=20),
        "leader.ttl.differs",
        ("60", "20"),
    ),
    ("the same ttl", lambda world: world.set(leader_ttl=60, node_leader_ttl=60), None, ()),
    ("an unknown ttl", lambda world: world.set(leader_ttl=None, node_leader_ttl=60), None, ()),
    (
        "unreadable",
        lambda world: world.set(unreadable=("/openvcha/tasks/\x1b[2J",)),
        "record.unreadable",
        ("/openvcha/tasks/\\x1b[2J",),
    ),
    (
        "failing",
        lambda world: world.set(failing={"events": "ValueError: odd"}),
        "background.failing",
        ("events", "ValueError: odd"),
    ),
    (
        "collation",
        told("b-2", postgres=PostgresFacts(collations=("shop with 1, here 2\x1b[2J",))),
        "collation.differs",
        ("vcha-2", "shop with 1, here 2\\x1b[2J"),
    ),
    ("silent", lambda world: world.hear("w-3", facts=None, silent=True), "node.silent", ()),
    ("unknown", lambda world: world.hear("w-3", facts=None), None, ()),
]


@pytest.mark.parametrize(
    ("change", "reason", "arguments"), [row[1:] for row in THREATS], ids=[row[0] for row in THREATS]
)
def test_what_only_threatens_is_told_and_leaves_the_cluster_healthy(
    world: ObservationBuilder,
    change: Callable[[ObservationBuilder], None],
    reason: str | None,
    arguments: tuple[str, ...],
) -> None:
    """HEALTHY is about connection and replication; a threat is a separate warning with advice."""
    change(world)
    found = assess(world.seen)
    assert found.state is ClusterState.HEALTHY
    assert [w.error.id.removeprefix(PREFIX) for w in found.warnings] == ([reason] if reason else [])
    for warning in found.warnings:
        assert warning.error.args[: len(arguments)] == arguments
        assert warning.recommendation
        assert warning.recommendation.default_message


def test_a_fault_comes_before_what_only_threatens(world: ObservationBuilder) -> None:
    """The first warning is the one to act on."""
    world.tell("b-2", disk_free=1)
    world.node("w-3", etcd_answers=False)
    assert [w.error.id.removeprefix(PREFIX) for w in assess(world.seen).warnings] == [
        "node.lost",
        "quorum.no.margin",
        "disk.nearly.full",
    ]
    assert assess(world.seen).state is ClusterState.DEGRADED


def test_a_silent_node_that_is_lost_is_only_lost(world: ObservationBuilder) -> None:
    """Its missing report follows from its loss."""
    world.hear("w-3", facts=None, silent=True)
    world.lose("w-3")
    assert "node.silent" not in reasons(world)


def test_the_key_of_a_finding_outlives_its_numbers(world: ObservationBuilder) -> None:
    """Otherwise each byte of lag would be a new event."""
    world.tell("b-2", disk_free=5)
    before = [found.key for found in assess(world.seen).findings]
    world.tell("b-2", disk_free=4)
    assert [found.key for found in assess(world.seen).findings] == before


def test_patroni_states_mean_what_patroni_means() -> None:
    """A primary is one that runs; a standby streams or does not."""
    assert PRIMARY.primary
    assert not PRIMARY.streaming
    assert STREAMING.streaming
    assert not STREAMING.primary
    assert not PatroniNode("primary", "stopping", 1, ()).primary


def test_a_server_that_does_not_start_says_why(world: ObservationBuilder) -> None:
    """As long as it does not start; the node itself knows the reason."""
    trouble = PostgresTrouble(starts=True, times=2, reason="no file x")
    world.tell("b-2", trouble=trouble)
    assert "postgres.not.starting:vcha-2" not in [f.key for f in assess(world.seen).findings]
    world.node("b-2", patroni=None)
    found = [f for f in assess(world.seen).findings if f.key == "postgres.not.starting:vcha-2"]
    assert "no file x" in found[0].condition.error.default_message


def test_an_active_that_lets_the_cluster_in_no_more_is_degraded(world: ObservationBuilder) -> None:
    """After its next stop it could not lead again; a passive has the same roles."""
    refusal = 'FATAL: role "postgres" is not permitted to log in'
    world.tell("b-2", refusal=refusal)
    assert assess(world.seen).state is ClusterState.HEALTHY
    assert texts(world, "postgres.refuses:vcha-2")
    world.tell("b-2", refusal=None)
    world.tell("a-1", refusal=refusal)
    assert assess(world.seen).state is ClusterState.DEGRADED
    error, advice = texts(world, "postgres.refuses:vcha-1")
    assert refusal in error
    assert "ALTER ROLE postgres SUPERUSER LOGIN" in advice


@pytest.mark.parametrize(
    ("cause", "way_back"),
    [
        (RefusalCause.TLS, "Remove ssl"),
        (RefusalCause.RULES, "pg_hba.conf on vcha-1"),
        (RefusalCause.FULL, "sessions of superusers on vcha-1"),
        (RefusalCause.NAMESPACE, "Remove db_user_namespace"),
    ],
)
def test_the_advice_on_a_refusal_follows_from_its_cause(
    world: ObservationBuilder, cause: RefusalCause, way_back: str
) -> None:
    """The role is not always what was changed."""
    world.tell("a-1", refusal="no", refusal_cause=cause)
    _, advice = texts(world, "postgres.refuses:vcha-1")
    assert way_back in advice
    assert "ALTER ROLE" not in advice


AUTO = "/a/pgdata/postgresql.auto.conf"
NO_STANDBY = Override(name="synchronous_standby_names", value="", file=AUTO, vital=True)


def texts(world: ObservationBuilder, part: str) -> list[str]:
    """Return the errors and recommendations of the findings whose key contains this."""
    found = [f.condition for f in assess(world.seen).findings if part in f.key]
    both = [text for each in found for text in (each.error, each.recommendation) if text]
    return [text.default_message for text in both]


def test_a_setting_of_the_cluster_that_was_overridden_is_told_with_the_way_back(
    world: ObservationBuilder,
) -> None:
    """By its name, its node, and a command that can be pasted."""
    world.tell("a-1", postgres=PostgresFacts(overrides=(NO_STANDBY,)))
    error, advice = texts(world, "setting.overridden:synchronous_standby_names:vcha-1")
    assert "vcha-1" in error
    assert "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();" in advice
    other = replace(NO_STANDBY, file="/etc/extra.conf")
    world.tell("a-1", postgres=PostgresFacts(overrides=(other,)))
    assert "/etc/extra.conf" in texts(world, "setting.overridden")[1]
    assert assess(world.seen).state is ClusterState.HEALTHY


def test_a_slot_that_a_failover_would_leave_behind_is_told(world: ObservationBuilder) -> None:
    """Each by its name; not one that the passive has too, nor while its slots are unknown."""
    world.tell("a-1", postgres=PostgresFacts(slots=("barman", "synchronized")))
    assert texts(world, "slot.left.behind") == []
    world.tell("b-2", postgres=PostgresFacts(slots=("synchronized",)))
    error, advice = texts(world, "slot.left.behind")
    assert "barman on vcha-1" in error
    assert "barman" in advice
    assert assess(world.seen).state is ClusterState.HEALTHY


def test_what_is_told_of_slots_is_bounded_and_plain(world: ObservationBuilder) -> None:
    """A thief with a node's files may write any name there."""
    named = tuple(f"\x1b[2J{n}" + "x" * 1000 for n in range(MAX_SHOWN_ITEMS + 1))
    world.tell("a-1", postgres=PostgresFacts(slots=named))
    world.tell("b-2", postgres=PostgresFacts())
    found = texts(world, "slot.left.behind")
    assert len(found) == 2 * MAX_SHOWN_ITEMS
    assert all("\x1b" not in text and len(text) < 2 * MAX_SHOWN_CHARACTERS for text in found)


def test_what_is_set_for_the_cluster_s_roles_is_texts(world: ObservationBuilder) -> None:
    """Replication itself depends on it."""
    world.tell("a-1", postgres=PostgresFacts(roles=("replicator: wal_sender_timeout=10ms",)))
    assert "ALTER ROLE replicator RESET ALL" in texts(world, "setting.of.role")[1]


def test_commits_that_do_not_wait_for_the_passive_are_told(world: ObservationBuilder) -> None:
    """With the command that reverts it; anyone may choose a database's name."""
    world.tell("a-1", postgres=PostgresFacts(commits=('DATABASE "a: b": off', "ROLE ALL: local")))
    told = texts(world, "setting.early.commit")
    assert 'ALTER DATABASE "a: b" RESET synchronous_commit;' in told[1]
    assert "ALTER ROLE ALL RESET synchronous_commit;" in told[3]
    assert assess(world.seen).state is ClusterState.HEALTHY


def test_nodes_whose_settings_differ_are_texts(world: ObservationBuilder) -> None:
    """Only settings that should be equal, and only where both are known."""
    world.tell("a-1", postgres=PostgresFacts(shared={"wal_keep_size": "1"}))
    assert texts(world, "setting.differs") == []
    world.tell("b-2", postgres=PostgresFacts(shared={"wal_keep_size": "1"}))
    assert texts(world, "setting.differs") == []
    world.tell("b-2", postgres=PostgresFacts(shared={"wal_keep_size": "2"}))
    assert "1 on vcha-1; 2 on vcha-2" in texts(world, "setting.differs:wal_keep_size")[0]


def test_a_full_store_degrades_and_says_what_to_do(world: ObservationBuilder) -> None:
    """No node could take over, as that is a write."""
    world.set(space=StoreSpace("a-1", 1000, 900, 1000, full=True))
    assert reasons(world) == {"store.full"}
    (warning,) = assess(world.seen).warnings
    assert warning.recommendation is not None
    assert "vcha node store defragment" in warning.recommendation.default_message


@pytest.mark.parametrize(("size", "warned"), [(699, False), (700, True)])
def test_a_store_that_fills_is_a_warning(
    world: ObservationBuilder, size: int, warned: bool
) -> None:
    """From 70 % of its quota on; the state does not change."""
    world.set(space=StoreSpace("a-1", size, 100, 1000))
    found = assess(world.seen)
    assert found.state is ClusterState.HEALTHY
    assert [each.key for each in found.findings] == (["store.filling"] if warned else [])
    if warned:
        text = found.findings[0].condition.error.default_message
        assert text == (
            "The store is filling up: 70 % of its quota (700 of 1000 bytes on a-1, 100 in use)."
        )


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (NOBODY, "address.nobody"),
        (cannot("it is in use"), "address.cannot"),
        (conflict("02:00:00:00:00:01"), "address.conflict"),
    ],
)
def test_an_address_that_the_active_does_not_hold_is_a_fault(
    world: ObservationBuilder, state: AddressState, reason: str
) -> None:
    """Clients do not reach the active, or reach another machine."""
    world.hear("a-1", address=state)
    assert reasons(world) == {reason}
    (found,) = assess(world.seen).warnings
    assert "127.83.1.10" in found.error.default_message
    assert state.detail in found.error.default_message


def test_an_address_that_the_active_holds_is_no_fault(world: ObservationBuilder) -> None:
    """The normal case."""
    world.hear("a-1", address=HELD)
    assert reasons(world) == set()


def test_an_active_that_has_not_reported_the_address_is_no_fault(world: ObservationBuilder) -> None:
    """It is unknown, as during each takeover; others do not count."""
    world.hear("a-1", address=None)
    world.hear("b-2", address=NOBODY)
    assert reasons(world) == set()


def test_an_address_of_the_active_s_own_is_named(world: ObservationBuilder) -> None:
    """A node may have a public address that differs from the cluster's."""
    world.node("a-1", config=replace(world.seen.nodes[0].config, failover_ip=ip("127.83.1.77")))
    world.hear("a-1", address=NOBODY)
    (found,) = (w for w in assess(world.seen).warnings if w.error.id.endswith("address.nobody"))
    assert "127.83.1.77" in found.error.default_message
