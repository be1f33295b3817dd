"""Patroni's keys: one reader for each, and no conclusion from what cannot be read."""

import json
from typing import Any

import pytest

from openvcha.node.background.standby_progress import observe_standby
from openvcha.node.local_records.cluster import in_sync
from openvcha.store import keys
from openvcha.store.errors import RecordInvalid
from openvcha.store.interface import KeyValue
from openvcha.store.patroni import rest as patroni_rest
from openvcha.store.patroni.state import (
    FailoverRequest,
    LeaderStatus,
    MemberState,
    SyncState,
    TimelineEnd,
    Unreadable,
    parse_sync,
    paused,
    read_config,
    read_failover,
    read_failsafe,
    read_history,
    read_leader,
    read_member,
    read_members,
    read_status,
    read_sync,
)

FORGED_SYNCS = [
    b"\xff",
    b"7",
    b'{"leader":7,"sync_standby":"b"}',
    b'{"leader":"a","sync_standby":["b"]}',
    b'{"leader":"a","sync_standby":"b","quorum":true}',
    b'{"leader":"a","sync_standby":"%s"}' % (b"b" * 300),
    b'{"leader":"a","sync_standby":"b\\u001b[2J"}',
]


def text(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_who_may_take_over() -> None:
    """No key means that no node may, for certain; the list is separated by commas."""
    assert read_sync(None) == read_sync(b"") == read_sync("{}") == SyncState(None, frozenset())
    assert read_sync(text(leader="a", sync_standby=None)) == SyncState("a", frozenset())
    assert read_sync(text(leader="a", sync_standby="b,c,")) == SyncState("a", frozenset("bc"))


@pytest.mark.parametrize("value", FORGED_SYNCS, ids=range(len(FORGED_SYNCS)))
def test_all_find_the_same_sync_unreadable(value: bytes) -> None:
    """The cluster, the node that may wipe its data, and its own records for emergencies."""
    assert isinstance(read_sync(value), Unreadable)
    with pytest.raises(RecordInvalid, match=keys.PATRONI_SYNC):
        parse_sync(value)
    assert in_sync("b", "a", None) is None
    primary = text(role="primary", state="running")
    found = [
        KeyValue(keys.PATRONI_LEADER, b"a", 1, 1, 1),
        KeyValue(keys.PATRONI_SYNC, value, 1, 1, 1),
        KeyValue(keys.patroni_member("a"), primary, 1, 1, 1),
    ]
    look = observe_standby("b", found, ())
    assert look.source is None, "nobody is confirmed to be copied from"
    assert not look.in_sync


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b'{"pause":true}', True),
        (b"{}", False),
        (b'{"pause":null}', False),
        (b'{"pause":"yes"}', False),
        (b"[]", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_pause_is_what_patroni_takes_for_one(config: bytes | None, expected: bool | None) -> None:
    """Anything but a boolean is hidden from it; without a configuration it keeps the last one."""
    assert paused(config) is expected
    assert isinstance(read_config(config), Unreadable) is (expected is None)


def test_the_other_keys() -> None:
    """As Patroni writes them."""
    assert read_leader(b"a-1") == "a-1"
    assert read_failover(b"") == FailoverRequest()
    assert read_failover(text(leader="a", member="b")) == FailoverRequest("a", "b")
    assert read_status(text(optime=7, slots={"b_2": 7})) == LeaderStatus(7)
    assert read_status(text(optime=0)) == LeaderStatus(None)
    line = [1, 50331808, "no target", "2026-11-27T09:04:50+00:00", "a"]
    assert read_history(json.dumps([line])) == (TimelineEnd(1, 50331808, "no target", "a"),)
    assert read_history(json.dumps([line[:3]])) == (TimelineEnd(1, 50331808, "no target"),)
    assert read_failsafe(text(a="https://x", b=7)) == {"a": "https://x", "b": None}


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_failover, b'{"member":["b"]}'),
        (read_failover, b'{"member":"b","scheduled_at":"2026-11-27T09:00:00+00:00"}'),
        (read_status, b'{"optime":-1}'),
        (read_status, b'{"optime":7,"slots":[]}'),
        (read_status, b""),
        (read_history, b"{}"),
        (read_history, b'[[1,"x","y"]]'),
        (read_history, b"[" * 100_000),
        (read_member, b"[]"),
        (read_failsafe, b"7"),
    ],
)
def test_another_form_is_unreadable(read: Any, value: bytes) -> None:
    """Whatever a thief with a vote writes."""
    assert isinstance(read(value), Unreadable)


def test_one_that_cannot_be_read_hides_no_other_member() -> None:
    """And of a readable one, fields of another form are unknown."""
    sound = text(state="running", role="replica", replication_state="streaming", replay_lsn=7)
    odd = text(state=["running"], role=7, replay_lsn="7", tags=[], conn_url=None)
    values = {"a": sound, "b": b"\xff", "c": odd}
    found = [KeyValue(keys.patroni_member(name), value, 1, 1, 1) for name, value in values.items()]
    states = read_members(found)
    assert states == {
        "a": MemberState("replica", "running", "streaming", replay_lsn=7),
        "c": MemberState(),
    }
    assert (states["a"].streams, states["a"].primary) == (True, False)


def test_what_a_patroni_answers() -> None:
    """A standby's own replication state comes first; the newest position counts."""
    page = text(
        role="replica",
        state="running",
        replication_state="streaming",
        timeline=3,
        xlog={"received_location": 9, "replayed_location": 7},
        patroni={"name": "b"},
    )
    node = patroni_rest.read_node(page)
    assert node is not None
    assert (node.streaming, node.primary, node.timeline, node.lsn) == (True, False, 3, 9)
    assert node.member == "b"
    assert patroni_rest.read_node(b"[]") is None
