"""What a node reads of its cluster: the members rarely, unless a task may be changing them."""

import asyncio

import pytest
from tests.support.simulated.connectivity import ObservedCluster

from openvcha.node.background.cluster_records import LIST_SECONDS, ClusterReader, ClusterRecords
from openvcha.node.background.context import Control
from openvcha.store import keys
from openvcha.store.errors import StoreError

pytestmark = pytest.mark.looptime

KINDS = pytest.mark.parametrize("kind", ["data", "witness"])


class Reader:
    """A node that reads its cluster every second."""

    def __init__(self, patch: pytest.MonkeyPatch, kind: str = "data") -> None:
        self.cluster = ObservedCluster(patch, kind)
        self._reader = ClusterReader(self.cluster.view.identity, self.cluster.view.store)

    async def read(self, times: int = 1) -> ClusterRecords:
        """Return the last of some readings."""
        for _ in range(times):
            found = await self._reader.read(asyncio.get_running_loop().time())
            await asyncio.sleep(1)
        return found

    async def lists(self, times: int) -> int:
        """Return how often the members were listed in some readings."""
        before = self.cluster.lists
        await self.read(times)
        return self.cluster.lists - before


@KINDS
async def test_while_no_task_runs_the_members_are_listed_now_and_then(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The records are read each time; the list says how old it is."""
    reader = Reader(monkeypatch, kind)
    found = await reader.read()
    assert await reader.lists(int(LIST_SECONDS) - 1) == 0
    lists = reader.cluster.lists
    last = await reader.read()
    assert reader.cluster.lists == lists + 1
    assert reader.cluster.reads == LIST_SECONDS + 1
    assert last.began - found.began == last.listed.began - found.listed.began == LIST_SECONDS


@KINDS
async def test_while_a_task_may_change_them_they_are_listed_each_time(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """From the reading on that shows it, and once more after its end."""
    reader = Reader(monkeypatch, kind)
    await reader.read()
    reader.cluster.required_votes = 7
    assert await reader.lists(3) == 3
    reader.cluster.required_votes = 0
    assert await reader.lists(1) == 1
    assert await reader.lists(1) == 0


async def test_a_task_without_required_votes_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An undeploy removes votes last, when that record is gone already."""
    reader = Reader(monkeypatch)
    await reader.read()
    reader.cluster.task = True
    assert await reader.lists(2) == 2


@pytest.mark.parametrize("change", ["leader", "failure", "own"])
async def test_after_what_is_unusual_they_are_listed_again(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Another leader, no quorum for a moment, or a list without the node itself."""
    reader = Reader(monkeypatch)
    if change == "own":
        monkeypatch.setattr("tests.support.simulated.connectivity.NAMES", ("x", "second", "third"))
    await reader.read()
    if change == "leader":
        reader.cluster.leader = "second"
    if change == "failure":
        reader.cluster.fault = StoreError("no quorum")
        with pytest.raises(StoreError):
            await reader.read()
    assert await reader.lists(1) == 1


async def test_the_leader_s_own_record_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever judges a standby needs to know whether a primary runs."""
    reader = Reader(monkeypatch)
    reader.cluster.leader = "second"
    await reader.read()
    found = await reader.read()
    assert {keys.patroni_member("own"), keys.patroni_member("second")} <= found.values.keys()


async def test_other_required_votes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first reading too: the watch may have begun after a change."""
    reader = Reader(monkeypatch)
    reader.cluster.required_votes = 3
    control = Control([], never, nothing, nothing)
    told = []
    for revision in (3, 3, 7, 7, 0):
        reader.cluster.required_votes = revision
        control.note_records(await reader.read())
        told.append(control.votes_changed.is_set())
        control.votes_changed.clear()
    assert told == [True, False, True, False, True]
    assert control.members
    assert control.members.members[0].name == "own"


async def never() -> bool:
    raise AssertionError("nobody takes a base backup here")


def nothing(*_: object) -> None:
    """Show nothing."""
