"""Without the store: when a node powers others on, and when it does not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.node_files import identity

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.daemon import peer_power
from openvcha.daemon.peer_power import (
    POLL_SECONDS,
    LocalMeans,
    LocalNode,
    keep_peers_on,
    parse_voters,
)
from openvcha.infrastructure.interface import NodeState, Power
from openvcha.node.background.required_votes import CONFIRM_SECONDS
from openvcha.node.identity import MAX_STOPPED_STORE, Timers
from openvcha.node.layout import Layout
from openvcha.node.local_records.required_votes import (
    FRESH_SECONDS,
    RequiredVotes,
    save_required_votes,
)
from openvcha.node.security.tls import NodeTls

pytestmark = pytest.mark.looptime

TIMERS = Timers()
STOPPED_SECONDS = TIMERS.stopped_store
LEADERLESS_SECONDS = TIMERS.leaderless

REQUIRED_VOTES = RequiredVotes(task="t", active="a", nodes={"a": "vm-a", "p": "vm-p", "w": "vm-w"})


class Site:
    """A SIMULATED infrastructure around the node ``p``, and its view of the store."""

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.required_votes: RequiredVotes | None = REQUIRED_VOTES
        self.serves = True
        self.leads = True
        self.voters: Sequence[str] | None = ["a", "p"]
        self.power = dict.fromkeys(REQUIRED_VOTES.nodes.values(), Power.ON)
        self.away = False
        self.refuses: set[str] = set()
        self.asked: list[str] = []

    async def node(self, vm: str) -> NodeState:
        if self.away:
            raise ApiError(ErrorType.RESOURCE_INACCESSIBLE, message("no.active"))
        return NodeState(power=self.power.get(vm, Power.GONE))

    async def power_on(self, vm: str) -> None:
        self.asked.append(vm)
        if vm in self.refuses:
            raise ApiError(ErrorType.SERVICE_UNAVAILABLE, message("no.active"))
        self.power[vm] = Power.ON

    def means(self) -> LocalMeans:
        async def serves() -> bool:
            return self.serves

        async def leaderless() -> bool:
            return not self.leads

        async def voters() -> Sequence[str] | None:
            return self.voters

        async def renew(_: RequiredVotes) -> None:
            """Do nothing: a list does not expire here."""

        required_votes = lambda: self.required_votes  # noqa: E731 - changes while it runs
        return LocalMeans(
            "p",
            required_votes,
            renew,
            serves,
            leaderless,
            voters,
            self.node,
            self.power_on,
            self.timers,
        )

    def off(self, *vms: str) -> None:
        self.power |= dict.fromkeys(vms, Power.OFF)


@asynccontextmanager
async def watched(timers: Timers = TIMERS) -> AsyncIterator[Site]:
    """Watch a site for as long as the test lasts, by the test's own clock."""
    site = Site(timers)
    watching = asyncio.create_task(keep_peers_on(site.means()))
    await asyncio.sleep(POLL_SECONDS)
    try:
        yield site
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def test_who_is_needed_is_powered_on_when_the_store_has_stopped() -> None:
    """The active died, and its vote is one of two; a node without a vote is left alone."""
    async with watched() as site:
        site.serves = False
        site.off("vm-a", "vm-w")
        await asyncio.sleep(STOPPED_SECONDS + 2 * POLL_SECONDS)
        assert site.asked == ["vm-a"]


async def test_how_long_the_store_may_be_stopped_is_a_setting() -> None:
    """So is how long no node may lead: twice as long as the leader key outlives its holder."""
    async with watched(Timers(leader_ttl=50, stopped_store=60)) as site:
        site.serves = False
        site.off("vm-a")
        await asyncio.sleep(60 - 2 * POLL_SECONDS)
        assert site.asked == []
        await asyncio.sleep(4 * POLL_SECONDS)
        assert site.asked == ["vm-a"]
    async with watched(Timers(leader_ttl=50, stopped_store=60)) as site:
        site.leads = False
        site.off("vm-a")
        await asyncio.sleep(100 - 2 * POLL_SECONDS)
        assert site.asked == []
        await asyncio.sleep(4 * POLL_SECONDS)
        assert site.asked == ["vm-a"]


async def test_an_election_is_no_reason() -> None:
    """A store outage shorter than an election powers no node on."""
    async with watched() as site:
        site.off("vm-a")
        for _ in range(5):
            site.serves = False
            await asyncio.sleep(STOPPED_SECONDS - 2 * POLL_SECONDS)
            site.serves = True
            await asyncio.sleep(2 * POLL_SECONDS)
        assert site.asked == []


async def test_without_a_list_nobody_is_powered_on() -> None:
    """No task changes votes: a node that a person powered off stays off."""
    async with watched() as site:
        site.required_votes = None
        site.serves = False
        site.off("vm-a")
        await asyncio.sleep(120)
        assert site.asked == []


@pytest.mark.parametrize("power", [Power.ON, Power.GONE, Power.UNKNOWN])
async def test_who_is_not_surely_off_is_let_be(power: Power) -> None:
    """It runs, or is gone, or its host cannot be reached: powering it on would not help."""
    async with watched() as site:
        site.serves = False
        site.power["vm-a"] = power
        await asyncio.sleep(60)
        assert site.asked == []


async def test_while_a_majority_has_power_nobody_is_powered_on() -> None:
    """This node is isolated: the others serve, and the node may be off on purpose."""
    async with watched() as site:
        site.voters = ["a", "p", "w"]
        site.serves = False
        site.off("vm-w")
        await asyncio.sleep(60)
        assert site.asked == []


async def test_a_power_on_that_is_refused_is_tried_again() -> None:
    """The others are powered on too; the infrastructure may be away for a while itself."""
    async with watched() as site:
        site.voters = ["a", "p", "w"]
        site.serves = False
        site.away = True
        site.refuses = {"vm-a"}
        site.off("vm-a", "vm-w")
        await asyncio.sleep(3 * STOPPED_SECONDS)
        assert site.asked == []
        site.away = False
        await asyncio.sleep(STOPPED_SECONDS + 2 * POLL_SECONDS)
        assert site.asked == ["vm-a", "vm-w"]
        site.refuses = set()
        site.voters = ["a", "p"]
        await asyncio.sleep(STOPPED_SECONDS + 2 * POLL_SECONDS)
        assert site.asked == ["vm-a", "vm-w", "vm-a"]


async def test_where_nobody_leads_the_active_of_the_task_is_powered_on() -> None:
    """Only it has all the data yet; the others have quorum, and the store serves."""
    async with watched() as site:
        site.voters = ["a", "p", "w"]
        site.leads = False
        site.off("vm-a", "vm-w")
        await asyncio.sleep(LEADERLESS_SECONDS - 2 * POLL_SECONDS)
        assert site.asked == []
        await asyncio.sleep(4 * POLL_SECONDS)
        assert site.asked == ["vm-a"]


async def test_where_another_takes_over_the_active_is_let_be() -> None:
    """A takeover ends the time without a leader."""
    async with watched() as site:
        site.off("vm-a")
        for _ in range(3):
            site.leads = False
            await asyncio.sleep(LEADERLESS_SECONDS - 2 * POLL_SECONDS)
            site.leads = True
            await asyncio.sleep(2 * POLL_SECONDS)
        assert site.asked == []


def test_what_etcd_tells_its_peers_is_read() -> None:
    """Learners do not vote; a member that has not started has no name."""
    page = b'[{"id":1,"name":"a","peerURLs":["x"]},{"id":2,"name":"p","isLearner":true},{"id":3}]'
    assert parse_voters(page) == ["a", ""]


@pytest.mark.parametrize("page", [b"", b"{}", b"[]", b"Not Found", b'[{"name": 1}]'])
def test_what_cannot_be_read_is_unknown(page: bytes) -> None:
    """An empty member list is no answer either."""
    assert parse_voters(page) is None


IDENTITY = identity("p", vm="vm-p", public_address="127.2.2.2")


def test_a_list_that_is_too_old_is_none(tmp_path: Path) -> None:
    """The file still exists until the job removes it."""
    layout = Layout(tmp_path)
    node = LocalNode(IDENTITY, layout, NodeTls(layout))
    now = datetime.now(UTC)
    save_required_votes(layout, REQUIRED_VOTES, now)
    assert node.required_votes() is not None
    save_required_votes(layout, REQUIRED_VOTES, now - timedelta(seconds=FRESH_SECONDS + 5))
    assert node.required_votes() is None


@pytest.mark.parametrize(
    ("voters", "seconds", "asked"),
    [
        # One of two votes is its own: no task has ended without it.
        (b'[{"name": "a"}, {"name": "p"}]', 1200, True),
        # The two others may have ended the task, or its own etcd does not say.
        (b'[{"name": "a"}, {"name": "p"}, {"name": "w"}]', 1200, False),
        (b'[{"name": "a"}, {"name": "w"}]', 1200, False),
        (b"", 1200, False),
        # All lists outlast the longest wait for the store.
        (b"", 2 * (MAX_STOPPED_STORE + 2 * POLL_SECONDS), True),
    ],
)
async def test_a_list_lasts_as_long_as_its_task_cannot_have_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, voters: bytes, seconds: float, asked: bool
) -> None:
    """The infrastructure cannot power the node on before: its host is down. The list is real."""
    layout, loop = Layout(tmp_path), asyncio.get_running_loop()
    start, began = datetime.now(UTC), loop.time()
    clock = SimpleNamespace(now=lambda zone: start.astimezone(zone) + _seconds(loop, began))
    monkeypatch.setattr(peer_power, "dt", SimpleNamespace(UTC=UTC, datetime=clock))
    node: Any = LocalNode(IDENTITY, layout, lambda: None)  # type: ignore[arg-type]  # unused

    async def ask(*_: object) -> bytes:
        return voters

    monkeypatch.setattr(peer_power, "ask", ask)
    site = Site(Timers(stopped_store=MAX_STOPPED_STORE))
    site.serves = False
    site.refuses = {"vm-a"}
    site.off("vm-a")
    save_required_votes(layout, REQUIRED_VOTES, start - timedelta(seconds=CONFIRM_SECONDS))
    means = changed(site.means(), required_votes=node.required_votes, renew=node.renew)
    watching = asyncio.create_task(keep_peers_on(means))
    await asyncio.sleep(seconds - MAX_STOPPED_STORE - 2 * POLL_SECONDS)
    site.asked.clear()
    await asyncio.sleep(MAX_STOPPED_STORE + 2 * POLL_SECONDS)
    watching.cancel()
    assert (site.asked == ["vm-a"]) is asked


def _seconds(loop: asyncio.AbstractEventLoop, began: float) -> timedelta:
    return timedelta(seconds=loop.time() - began)
