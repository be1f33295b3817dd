"""What forbids making a node stand-alone, besides the others' answers."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.simulated.kept_cluster import IDENTITY

from openvcha.daemon.recovery import standalone_check
from openvcha.daemon.recovery.standalone_check import check_standalone, own_view
from openvcha.node.layout import Layout
from openvcha.node.process.status import Contact, LocalRole, NodeStatus, OwnView
from openvcha.node.recovery.survey import Place, PlaceReply, Quorum, Survey

LOOKED = OwnView(
    role=LocalRole.ACTIVE, contact=Contact.CONNECTED, since="2026-01-01T00:00:00+00:00"
)
OTHER = PlaceReply(Place("127.1.1.2", "b"), ("etcd without a majority",))


def status(view: OwnView | None) -> NodeStatus:
    return NodeStatus(member="a-1", kind="data", pid=7, started=7, view=view)


def survey(*members: str, said: tuple[PlaceReply, ...] = ()) -> Survey:
    quorum = Quorum(frozenset(members), "c1", 9) if members else None
    return Survey(IDENTITY, None, None, quorum, said)


@pytest.mark.parametrize(
    ("found", "first", "word"),
    [
        (survey(), True, None),
        (survey("a-1"), False, None),
        (survey("a-1"), True, "already stand-alone"),
        (survey("a-1", "b-1"), True, "has a quorum"),
        (survey(said=(OTHER,)), True, "it is not alone"),
    ],
)
async def test_a_cluster_of_one_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Survey, first: bool, word: str | None
) -> None:
    """If its store is alone but its configuration is not yet, the work is resumed."""

    async def is_first(*_: Any) -> bool:
        return first

    monkeypatch.setattr(standalone_check, "_is_first_node", is_first)
    reason = await check_standalone(Layout(tmp_path), found)
    assert reason is None if word is None else word in str(reason)


@pytest.mark.parametrize("found", [None, status(None), status(LOOKED)])
def test_a_node_that_is_off_has_no_view(found: NodeStatus | None) -> None:
    """What it wrote while it ran does not count."""
    assert own_view(found, runs=False) is None


def test_a_node_that_runs_is_starting_until_it_has_looked() -> None:
    """Until then an answer at the public address may be its own."""
    assert own_view(status(LOOKED), runs=True) == LOOKED
    starting = own_view(status(None), runs=True)
    assert starting
    assert (starting.contact, starting.writable) == (Contact.STARTING, None)
