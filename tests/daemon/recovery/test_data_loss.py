"""What may be lost when a passive is made the primary: correct in every mode."""

from itertools import product
from typing import Any

import pytest

from openvcha.api.structures import ClusterMode
from openvcha.daemon.recovery.data_loss import Evidence, assess_data_loss, format_utc

MODES = (*ClusterMode, None)
PAUSES = (True, False, None)
NAMED = (True, False, None)
PLACES = ((1000, 1000), (1000, 1200), (1000, 900), (1000, None), (None, 900), (None, None))
ALL = list(product(MODES, PAUSES, NAMED, PLACES))


def known(mode: Any, paused: Any, in_sync: Any, places: Any) -> Evidence:
    active, own = places
    return Evidence(mode=mode, paused=paused, in_sync=in_sync, active_lsn=active, own_lsn=own)


def test_nothing_is_lost_only_where_the_active_could_acknowledge_nothing_alone() -> None:
    """Of all combinations, in one case: ENABLED, no pause, and `/sync` names the node.

    The positions of both prove nothing: the active may have gone on since it reported its own.
    """
    proven = [row for row in ALL if assess_data_loss(known(*row)).proven_none]
    assert {row[:3] for row in proven} == {(ClusterMode.ENABLED, False, True)}
    assert len(proven) == len(PLACES)


@pytest.mark.parametrize("row", ALL)
def test_every_case_says_what_how_much_and_since_when_and_never_the_opposite(row: Any) -> None:
    """Mode, sync, distance, time: each is stated, or said to be unknown."""
    mode, paused, in_sync, (active, own) = row
    found = assess_data_loss(known(mode, paused, in_sync, (active, own)))
    text = " ".join(found.lines)
    assert text.startswith("Nothing: ") is found.proven_none
    if found.proven_none:
        return
    assert "in sync when" not in text
    assert "It is not known when the active last responded" in text
    assert _distance(active, own) in text
    assert _what(mode, paused, in_sync) in text


def _what(mode: object, paused: object, in_sync: object) -> str:
    if mode is None or paused is None:
        return "the mode at that time is unknown"
    if mode is not ClusterMode.ENABLED or paused:
        return "the active may continue alone, and the store has no record of it"
    return "cannot be read" if in_sync is None else "after this node fell out of sync"


def _distance(active: int | None, own: int | None) -> str:
    if active is None:
        return "The active's position is unknown"
    if own is None:
        return "The active was at 0/3E8; this node's position is unknown"
    if own < active:
        return f"at least {active - own} bytes of write-ahead log are missing"
    return "what the active wrote later is unknown"


@pytest.mark.parametrize("mode", [ClusterMode.MAINTENANCE, ClusterMode.DISABLED])
def test_in_a_mode_that_lets_the_active_go_on_alone_sync_proves_nothing(mode: ClusterMode) -> None:
    """Regression: five acknowledged rows were lost although the command said that none would be."""
    found = assess_data_loss(
        Evidence(mode=mode, paused=True, in_sync=True, active_lsn=1000, own_lsn=1000)
    )
    assert not found.proven_none
    assert f"In the mode {mode} the active may continue alone" in found.lines[0]


def test_on_the_way_between_modes_the_pause_counts() -> None:
    """The mode is written last: while Patroni is paused, ENABLED is being left or restored."""
    found = assess_data_loss(Evidence(mode=ClusterMode.ENABLED, paused=True, in_sync=True))
    assert "In the mode ENABLED, which was being changed, the active" in found.lines[0]


def test_data_that_were_set_aside_are_older_than_what_the_store_says() -> None:
    """`/sync` may name the node for the data it was copying."""
    found = assess_data_loss(
        Evidence(mode=ClusterMode.ENABLED, paused=False, in_sync=True, from_old_data=True)
    )
    assert not found.proven_none
    assert "were set aside" in found.lines[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("promoted_last", [True, False])
@pytest.mark.parametrize("places", PLACES)
def test_who_was_the_primary_last_has_all_that_it_acknowledged(
    mode: Any, promoted_last: bool, places: Any
) -> None:
    """In every mode, if it began the newest timeline and no position contradicts that.

    Regression: a node that only got the leader key is named in `/sync` as the leader before its
    database is promoted; it lacked rows, and the command said that nothing would be lost.
    """
    active, own = places
    found = assess_data_loss(
        Evidence(
            mode=mode,
            paused=None,
            in_sync=False,
            named_leader=True,
            promoted_last=promoted_last,
            active_lsn=active,
            own_lsn=own,
        )
    )
    has_all = active is not None and own is not None and own >= active
    assert found.proven_none is (promoted_last and has_all)
    if not found.proven_none:
        assert "nothing proves that its database was the primary" in found.lines[0]
        assert _distance(active, own) in found.lines[1]


def test_who_began_the_newest_timeline_but_leads_no_more_is_no_last_leader() -> None:
    """A node that led after it may have acknowledged rows before it recorded its timeline."""
    known = Evidence(
        mode=None, paused=None, in_sync=False, promoted_last=True, active_lsn=1, own_lsn=1
    )
    assert not assess_data_loss(known).proven_none


def test_times_are_told_where_they_are_known() -> None:
    """By one clock."""
    row = format_utc("2026-01-01 01:00:00.123456+01:00")
    found = assess_data_loss(
        Evidence(
            mode=None,
            paused=None,
            in_sync=None,
            lease_held_until="2026-01-01T00:00:09+00:00",
            last_row=row,
            leader_ttl=45,
        )
    )
    text = " ".join(found.lines)
    assert "outlives its holder by up to 45 s" in text
    assert "is from 2026-01-01T00:00:00+00:00" in text
    assert "the leader key until 2026-01-01T00:00:09+00:00" in text
    assert format_utc("no time") is None
    assert format_utc(None) is None
