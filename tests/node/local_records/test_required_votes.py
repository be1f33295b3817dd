"""The VMs that the store's quorum needs, on each node's disk: read when nothing else answers."""

import asyncio
import datetime as dt
from functools import partial
from pathlib import Path

import pytest

from openvcha.node.layout import Layout
from openvcha.node.local_records.required_votes import (
    FRESH_SECONDS,
    MAX_RENEWAL_SECONDS,
    RequiredVotes,
    forget_required_votes,
    is_fresh,
    is_list,
    load_required_votes,
    renew_required_votes,
    save_required_votes,
    vms_to_power_on,
)
from openvcha.system.files.locks import DIRECTORY, locked

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NODES = {"a": "vm-a", "p": "vm-p", "w": "vm-w"}
REQUIRED_VOTES = RequiredVotes(task="t", active="a", nodes=NODES, gone="lost")


def test_what_was_written_is_read_by_the_next_run(tmp_path: Path) -> None:
    """Only the newest counts."""
    save_required_votes(Layout(tmp_path), REQUIRED_VOTES, NOW)
    save_required_votes(Layout(tmp_path), RequiredVotes(task="u", active="p", nodes={}), NOW)
    found = load_required_votes(Layout(tmp_path))
    assert found == RequiredVotes(task="u", active="p", nodes={}, seen=NOW.isoformat())


def test_after_the_task_no_vote_is_required(tmp_path: Path) -> None:
    """Otherwise a node powered off by a person would be powered on; forgetting is idempotent."""
    layout = Layout(tmp_path)
    save_required_votes(layout, REQUIRED_VOTES, NOW)
    for _ in range(2):
        forget_required_votes(layout)
        assert load_required_votes(layout) is None


def test_a_renewal_replaces_only_the_list_that_it_knows(tmp_path: Path) -> None:
    """Another program follows the store: a newer list, and the task's end, must not be undone."""
    layout = Layout(tmp_path)
    save_required_votes(layout, REQUIRED_VOTES, NOW)
    known = load_required_votes(layout)
    assert known
    newer = RequiredVotes(task="u", active="p", nodes={})
    save_required_votes(layout, newer, NOW)
    renew_required_votes(layout, known, NOW)
    found = load_required_votes(layout)
    assert found
    assert is_list(found, newer)
    forget_required_votes(layout)
    renew_required_votes(layout, known, NOW)
    assert load_required_votes(layout) is None


def test_a_list_is_renewed_for_a_day_after_a_majority_confirmed_it(tmp_path: Path) -> None:
    """Then it expires: nobody remembers the task. A majority may confirm it again."""
    layout, last = Layout(tmp_path), NOW
    save_required_votes(layout, REQUIRED_VOTES, NOW)
    for seconds in (60, MAX_RENEWAL_SECONDS, MAX_RENEWAL_SECONDS + 60):
        known = load_required_votes(layout)
        assert known
        last = NOW + dt.timedelta(seconds=seconds)
        renew_required_votes(layout, known, last)
    found = load_required_votes(layout)
    assert found
    assert is_list(found, REQUIRED_VOTES)
    assert found.seen == (NOW + dt.timedelta(seconds=MAX_RENEWAL_SECONDS)).isoformat()
    save_required_votes(layout, REQUIRED_VOTES, last)
    known = load_required_votes(layout)
    assert known
    renew_required_votes(layout, known, last + dt.timedelta(seconds=60))
    found = load_required_votes(layout)
    assert found
    assert found.seen == (last + dt.timedelta(seconds=60)).isoformat()


async def test_two_programs_never_write_the_list_at_once(tmp_path: Path) -> None:
    """They use one temporary name, and a renewal decides by what is on disk."""
    layout = Layout(tmp_path)
    save_required_votes(layout, REQUIRED_VOTES, NOW)
    known = load_required_votes(layout)
    assert known
    for change in (
        partial(save_required_votes, layout, REQUIRED_VOTES, NOW),
        partial(renew_required_votes, layout, known, NOW),
        partial(forget_required_votes, layout),
    ):
        with locked(tmp_path, DIRECTORY):
            writing = asyncio.create_task(asyncio.to_thread(change))
            done, _ = await asyncio.wait([writing], timeout=0.1)
            assert not done
        await writing


@pytest.mark.parametrize("content", [b"", b"{", b'{"vms": 1}', b"\xff"])
def test_what_cannot_be_read_powers_nobody_on(tmp_path: Path, content: bytes) -> None:
    """Nor may it end the check."""
    layout = Layout(tmp_path)
    layout.required_votes.write_bytes(content)
    assert load_required_votes(layout) is None


@pytest.mark.parametrize(
    ("age", "fresh"),
    [(0, True), (FRESH_SECONDS, True), (FRESH_SECONDS + 1, False), (-FRESH_SECONDS - 1, False)],
)
def test_a_list_counts_for_some_minutes_after_it_was_confirmed(
    tmp_path: Path, age: float, fresh: bool
) -> None:
    """A node that was away for longer knows nothing; nor does one whose clock was set back."""
    save_required_votes(Layout(tmp_path), REQUIRED_VOTES, NOW)
    found = load_required_votes(Layout(tmp_path))
    assert found
    assert is_fresh(found, NOW + dt.timedelta(seconds=age)) is fresh


@pytest.mark.parametrize("seen", ["", "yesterday", "2026-01-01T00:00:00"])
def test_a_list_of_an_unknown_age_does_not_count(seen: str) -> None:
    """Nor one whose time has no zone."""
    assert not is_fresh(RequiredVotes(task="t", active="a", nodes={}, seen=seen), NOW)


@pytest.mark.parametrize(
    ("voters", "off", "wanted"),
    [
        # Two votes, and the other voter has no power.
        (["a", "p"], {"vm-p"}, ("vm-p",)),
        (["a", "w"], {"vm-w", "vm-p"}, ("vm-w",)),  # a node without a vote is not needed
        # Of three votes two have power: this node is isolated, or they are starting.
        (["a", "p", "w"], {"vm-w"}, ()),
        (["a", "p", "w"], {"vm-p", "vm-w"}, ("vm-p", "vm-w")),
        # One vote, the node's own.
        (["a"], {"vm-p", "vm-w"}, ()),
        # Unknown power counts as on; so does an unnamed member.
        (["a", "p"], set(), ()),
        (["a", "p", ""], {"vm-p"}, ()),
        # A lost node that a task replaces still has a vote, and is on no list.
        (["a", "w", "lost"], {"vm-w"}, ("vm-w",)),
        (["a", "w", "lost"], {"vm-lost"}, ()),
        (["a", "w"], {"vm-lost", "vm-w"}, ("vm-w",)),
        # The votes are unknown: the list alone counts.
        (None, {"vm-w"}, ("vm-w",)),
    ],
)
def test_who_is_powered_on(
    voters: list[str] | None, off: set[str], wanted: tuple[str, ...]
) -> None:
    """Voters without power that are needed for quorum."""
    assert vms_to_power_on(REQUIRED_VOTES, "a", voters, off) == wanted


def test_an_unnamed_member_is_not_taken_for_the_lost_one() -> None:
    """When no node is being replaced."""
    whole = RequiredVotes(task="t", active="a", nodes=NODES)
    assert vms_to_power_on(whole, "a", ["a", "p", ""], {"vm-p"}) == ()
    assert vms_to_power_on(whole, "a", ["a", "p"], {"vm-p"}) == ("vm-p",)


def test_who_votes_not_itself_helps_the_others() -> None:
    """A learner, or a node whose vote was removed, counts the others' votes only."""
    assert vms_to_power_on(REQUIRED_VOTES, "p", ["a", "w"], {"vm-a"}) == ("vm-a",)
    assert vms_to_power_on(REQUIRED_VOTES, "p", ["a"], {"vm-a"}) == ("vm-a",)
    assert vms_to_power_on(REQUIRED_VOTES, "p", ["a"], {"vm-w"}) == ()


def test_a_node_that_a_person_made_is_powered_on_by_nobody() -> None:
    """It has no VM."""
    made = RequiredVotes(task="t", active="a", nodes={"a": "vm-a", "p": ""})
    assert vms_to_power_on(made, "a", ["a", "p"], {"vm-a"}) == ()
