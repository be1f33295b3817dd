"""Whether a node may be made stand-alone, and what is said before: pure decisions."""

import datetime as dt
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.support.simulated.kept_cluster import IDENTITY, KNOWN, kept

from openvcha.node.local_records.cluster import KeptCluster, MajorityView
from openvcha.node.process.status import Contact, LocalRole, OwnView
from openvcha.node.recovery.standalone_rules import (
    identity_lines,
    must_ask_public,
    rows_lost,
    standalone_refusal,
)
from openvcha.node.recovery.survey import Place, PlaceReply, Quorum, Survey

NOW = dt.datetime(2026, 1, 1, 0, 3, tzinfo=dt.UTC)
B = Place("127.1.1.4", "b")
W = Place("127.1.1.5", "w")
OWN = "https://127.1.1.1:2380"
SILENT = (PlaceReply(B), PlaceReply(W))


def asked(**changes: Any) -> Survey:
    """Return a survey in which all others are silent, except for ``changes``."""
    found = Survey(IDENTITY, kept(), None, None, SILENT)
    return replace(found, **changes)


def quorum(*names: str) -> Quorum:
    return Quorum(frozenset(names), "c1", 9)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"kept": None}, None),
        ({"said": ()}, None),
        ({"quorum": quorum("a-1")}, None),
        ({"quorum": quorum("a-1", "b-2", "w-2")}, "has a quorum"),
        ({"quorum": quorum("b-2", "w-2")}, "continues without it at revision 9"),
        (
            {"said": (PlaceReply(B, ("etcd without a quorum",)), PlaceReply(W))},
            "b (127.1.1.4) (etcd without",
        ),
        (
            {
                "said": (
                    PlaceReply(B),
                    PlaceReply(W, ("etcd, which accepts connections but does not respond",)),
                )
            },
            "w (127.1.1.5)",
        ),
        ({"said": (PlaceReply(B, ("Patroni: replica, running",)),)}, "Patroni: replica"),
        ({"said": (PlaceReply(Place("127.1.1.100", "x"), ("its API",)),)}, "its API"),
        ({"listed": {OWN: "a-2"}}, "a-2 has taken its place"),
        ({"listed": {OWN: "a-1"}}, None),
        ({"identity": msgspec.structs.replace(IDENTITY, kind="witness")}, "is a witness"),
    ],
)
def test_only_a_node_that_nobody_answers_may_stand_alone(
    changes: dict[str, Any], word: str | None
) -> None:
    """Whatever the answer: that there is one is enough."""
    reason = standalone_refusal(asked(**changes))
    assert (reason is None) if word is None else word in str(reason)


def test_who_answers_is_named_with_the_only_way_around() -> None:
    """No option overrides it."""
    reason = str(
        standalone_refusal(asked(said=(PlaceReply(B, ("etcd without a quorum",)), PlaceReply(W))))
    )
    assert "If b must not continue, power it off and try again" in reason


def test_the_store_and_the_node_are_shown_and_silence_is_not_called_gone() -> None:
    """Everything a person needs to decide: which store, how old, the node's role, who is silent."""
    text = "\n".join(identity_lines(asked(), NOW))
    for part in (
        "cluster c1, revision 7 or later",
        "2026-01-01T00:00:00+00:00 (3 min ago)",
        "it was then PASSIVE, in sync; its database was at 0/50 on timeline 3",
        "silent: b (127.1.1.4), w (127.1.1.5)",
        "silent does not mean gone",
    ):
        assert part in text


def test_what_is_not_known_is_said() -> None:
    """For a node without records, and one that was already removed at its last contact."""
    assert "nothing is known of the cluster" in "\n".join(identity_lines(asked(kept=None), NOW))
    text = "\n".join(identity_lines(asked(kept=kept(listed=False)), NOW))
    assert "had removed this node" in text
    early = NOW - dt.timedelta(hours=1)
    assert "by this machine's clock" in "\n".join(identity_lines(asked(), early))


def active(**changes: Any) -> KeptCluster:
    return kept(MajorityView(KNOWN.members, "a-1", frozenset(), **{"primary": True, **changes}))


@pytest.mark.parametrize(
    ("found", "begins"),
    [
        (None, "possibly acknowledged rows: it is not known whether"),
        (kept(in_sync=None), "possibly acknowledged rows: it is not known whether"),
        (kept(listed=False), "every row that was acknowledged after this node was removed"),
        (active(paused=False), "no row that was acknowledged before a lost"),
        (active(paused=True), "no row that was acknowledged before a lost"),
        (active(primary=False), "possibly acknowledged rows: a led, but its database"),
        (active(primary=None), "possibly acknowledged rows: a led, but its database"),
        (kept(in_sync=False), "the rows that were acknowledged after a fell out of sync"),
        (kept(), "no row that was acknowledged before a lost"),
        (kept(paused=True), "possibly acknowledged rows: in the modes MAINTENANCE and DISABLED"),
        (kept(paused=None), "possibly acknowledged rows: in the modes MAINTENANCE and DISABLED"),
    ],
)
def test_rows_are_called_safe_only_where_that_was_seen(
    found: KeptCluster | None, begins: str
) -> None:
    """Under a pause nothing records that the active has gone on alone."""
    assert rows_lost("a", found).startswith(begins)


def view(contact: Contact, seconds: float, *, writable: bool | None) -> OwnView:
    since = (NOW - dt.timedelta(seconds=seconds)).isoformat()
    return OwnView(role=LocalRole.ACTIVE, contact=contact, since=since, writable=writable)


@pytest.mark.parametrize(
    ("found", "asks"),
    [
        (None, True),
        (view(Contact.ISOLATED, 60, writable=False), True),
        (view(Contact.STARTING, 5, writable=None), True),
        (view(Contact.STARTING, 5, writable=True), False),
        (view(Contact.ISOLATED, 5, writable=False), False),
        (view(Contact.ISOLATED, 60, writable=True), False),
        (view(Contact.ISOLATED, 60, writable=None), False),
        (view(Contact.CONNECTED, 60, writable=False), False),
    ],
)
def test_the_public_address_is_asked_only_when_an_answer_must_be_anothers(
    found: OwnView | None, asks: bool
) -> None:
    """An active that goes on alone in MAINTENANCE would take itself for another node."""
    assert must_ask_public(found, NOW) is asks
