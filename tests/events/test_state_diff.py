"""The events between two observations: none is repeated, none is missed."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from openvcha.api.messages import message
from openvcha.api.structures import ClusterMode, ClusterState, ConfigState, EventSeverity
from openvcha.events.state_diff import (
    ClusterSnapshot,
    EventDraft,
    NodeSnapshot,
    PrimaryTerm,
    confirmed,
    diff,
)

NODES = {
    "a-1": NodeSnapshot("a", True),
    "b-2": NodeSnapshot("b", True),
    "w-3": NodeSnapshot("w", True),
}
REIGN = PrimaryTerm(member="a-1", timeline=1, started="12:00")
PROMOTED = PrimaryTerm(member="a-1", timeline=2, started="12:05")
RESTARTED = PrimaryTerm(member="a-1", timeline=1, started="12:05")
WELL = ClusterSnapshot(
    config_state=ConfigState.CONFIGURED,
    mode=ClusterMode.ENABLED,
    health=ClusterState.HEALTHY,
    nodes=NODES,
    active="a-1",
    address="a-1",
    reign=REIGN,
    in_sync=True,
    dropped_slots={"a-1": ()},
)
DISK = {"disk.nearly.full:b": message("disk.nearly.full", "b", 1, 2)}
DEGRADED = ClusterState.DEGRADED
WITHOUT_B = {**NODES, "b-2": NodeSnapshot("b", False)}
REPLACED = {"a-1": NODES["a-1"], "w-3": NODES["w-3"], "c-4": NodeSnapshot("c", True)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"health": DEGRADED}, [("cluster.state.degraded", "WARNING", None)]),
        ({"health": ClusterState.ISOLATED}, [("cluster.state.isolated", "ERROR", None)]),
        ({"mode": ClusterMode.MAINTENANCE}, [("cluster.mode.changed", "INFO", None)]),
        ({"nodes": WITHOUT_B}, [("node.left", "WARNING", "b")]),
        ({"nodes": REPLACED}, [("node.left", "WARNING", "b"), ("node.joined", "INFO", "c")]),
        ({"in_sync": False}, [("DB.replication.state.changed", "WARNING", None)]),
        ({"active": "b-2"}, [("failover.succeeded", "WARNING", "b")]),
        ({"address": "b-2"}, [("address.taken", "INFO", "b")]),
        ({"dropped_slots": {"a-1": ("b_2",)}}, [("slot.dropped", "INFO", "a")]),
        ({"dropped_slots": {"a-1": (), "b-2": ("a_1",)}}, []),
        ({"reign": PROMOTED}, [("primary.interrupted", "WARNING", "a")]),
        ({"reign": RESTARTED}, [("primary.interrupted", "WARNING", "a")]),
        (
            {"active": "b-2", "reign": PrimaryTerm(member="b-2", timeline=2, started="12:05")},
            [("failover.succeeded", "WARNING", "b")],
        ),
        ({"threats": DISK}, [("warning.raised", "WARNING", None)]),
        (
            {"config_state": ConfigState.NOTCONFIGURED, "health": None},
            [
                ("cluster.config.changed", "INFO", None),
                ("cluster.state.destroyed", "WARNING", None),
            ],
        ),
        (
            {"config_state": ConfigState.INVALID, "health": None},
            [
                ("cluster.config.changed", "ERROR", None),
                ("cluster.state.destroyed", "WARNING", None),
            ],
        ),
    ],
    ids=str,
)
def test_each_change_is_an_event_with_its_severity_and_node(
    changes: dict[str, Any], told: list[Any]
) -> None:
    """Each kind of change, by its type without the prefix."""
    found = [
        (d.type.removeprefix("com.vmware.vcha.").removeprefix("org.openvcha."), d.severity, d.node)
        for d in diff(WELL, replace(WELL, **changes))
    ]
    assert found == told


def test_way_back_is_told_too() -> None:
    """A node that comes back, replication in sync again, a warning that is over."""
    bad = replace(WELL, nodes=WITHOUT_B, in_sync=False, health=DEGRADED, threats=DISK)
    kinds = [draft.type.rsplit(".", 1)[-1] for draft in diff(bad, WELL)]
    assert kinds == ["joined", "changed", "healthy", "cleared"]
    assert all(draft.severity is EventSeverity.INFO for draft in diff(bad, WELL))


def test_the_first_look_tells_nothing() -> None:
    """The state before it is unknown."""
    assert diff(None, WELL) == ()


members = st.sampled_from(["a-1", "b-2", "w-3", "c-4"])
seen = st.builds(
    ClusterSnapshot,
    config_state=st.sampled_from(ConfigState),
    mode=st.sampled_from(ClusterMode),
    health=st.none() | st.sampled_from(ClusterState),
    nodes=st.dictionaries(members, st.booleans().map(lambda up: NodeSnapshot("n", up))),
    active=st.none() | members,
    address=st.none() | members,
    reign=st.none() | st.sampled_from([REIGN, PROMOTED, RESTARTED]),
    in_sync=st.booleans(),
    threats=st.dictionaries(st.sampled_from("xy"), st.just(message("event.in.sync"))),
)


def values(state: ClusterSnapshot) -> Mapping[str, Any]:
    """Return everything in a state that an event may report."""
    return {
        "config": state.config_state,
        "mode": state.mode,
        "health": state.health,
        "active": state.active,
        "address": state.address,
        "reign": state.reign,
        "in_sync": state.in_sync,
        **{f"node {name}": node.up for name, node in state.nodes.items()},
        **{f"threat {name}": True for name in state.threats},
    }


def changed(old: ClusterSnapshot, new: ClusterSnapshot) -> int:
    """Return the expected number of events, counted in a different way from diff."""
    before, now = values(old), values(new)
    count = 0
    for name in {*before, *now}:
        was, is_ = before.get(name), now.get(name)
        if name.startswith(("node", "threat")):
            was, is_ = bool(was), bool(is_)
        if was == is_ or (name in {"health", "active", "address", "reign"} and is_ is None):
            continue
        if name in {"active", "reign"} and was is None:
            continue  # the first active has no predecessor
        count += 1
        if name == "config" and was is ConfigState.CONFIGURED:
            count += 1  # and it is undeployed
    return count


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(seen, min_size=2, max_size=6))
def test_every_change_between_looks_is_told_once(looks: Sequence[ClusterSnapshot]) -> None:
    """In any sequence: as many events as changed values, none without a change."""
    told, events = None, 0
    expected = 0
    for before, now in pairwise(looks):
        new = confirmed(told, before, now)
        events += len(diff(told, new))
        expected += changed(told, new) if told else 0
        assert diff(new, new) == ()
        told = new
    assert events == expected


@given(seen, seen, seen)
def test_what_is_seen_twice_is_told_and_what_is_seen_once_is_not(
    told: ClusterSnapshot, blip: ClusterSnapshot, steady: ClusterSnapshot
) -> None:
    """One late answer is no loss; what lasts is reported after the second observation."""
    assert confirmed(told, blip, told).health == told.health
    settled = confirmed(told, steady, steady)
    assert settled.health is steady.health
    assert settled.nodes == steady.nodes
    assert settled.threats.keys() == steady.threats.keys()
    assert settled.active == (steady.active or told.active)
    assert settled.address == (steady.address or told.address)


def test_one_that_flaps_hides_no_other() -> None:
    """Each node is judged by itself."""
    flapping = replace(WELL, nodes={**NODES, "w-3": NodeSnapshot("w", False)})
    both = {**NODES, "b-2": NodeSnapshot("b", False)}
    now = confirmed(
        WELL,
        replace(WELL, nodes={**both, "w-3": NodeSnapshot("w", False)}),
        replace(WELL, nodes=both),
    )
    assert [draft.node for draft in diff(WELL, now)] == ["b"]
    assert confirmed(WELL, flapping, WELL) == WELL


def test_a_primary_that_was_none_for_a_while_says_how() -> None:
    """A new promotion has a new timeline; otherwise only its database was restarted."""
    texts = [
        diff(WELL, replace(WELL, reign=reign))[0].message.id for reign in (PROMOTED, RESTARTED)
    ]
    assert [text.rsplit(".", 1)[-1] for text in texts] == ["again", "restarted"]


def test_a_threat_whose_numbers_change_is_told_once() -> None:
    """Free space differs in every observation."""
    other = {"disk.nearly.full:b": message("disk.nearly.full", "b", 0, 2)}
    first = confirmed(WELL, replace(WELL, threats=DISK), replace(WELL, threats=other))
    assert len(diff(WELL, first)) == 1
    second = confirmed(first, replace(WELL, threats=other), replace(WELL, threats=DISK))
    assert second == first


def test_drafts_have_no_secret_place() -> None:
    """An event consists of a catalogue message and names, nothing else."""
    assert set(EventDraft.__struct_fields__) == {"type", "severity", "message", "node", "task"}
