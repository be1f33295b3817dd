"""The API's process: it serves exactly while ordered to, and restarts what fails."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from tests.support.simulated.observations import ObservationBuilder

from openvcha.daemon.api_processes.ordered_api import (
    MISSED_OBSERVATION_SECONDS,
    OBSERVATION_SECONDS,
    STANDBY_OBSERVATION_SECONDS,
    WARM_UP_SECONDS,
    ApiService,
    Sight,
)
from openvcha.daemon.api_processes.process import (
    COPY,
    ApiWorker,
    background_work,
    observe_cluster,
    write_marks,
)
from openvcha.node.layout import Layout
from openvcha.operations.context import Services
from openvcha.store.errors import StoreUnavailable

pytestmark = pytest.mark.looptime


@dataclass
class Server:
    """Simulated: a server that may end by itself, or whose port is taken."""

    log: list[str]
    taken: bool = False
    running: bool = False
    listens: bool = False
    ending: float = 0.0
    lost_listener: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, address: str, port: int) -> None:
        del address, port
        if self.taken:
            raise OSError("port taken")
        self.running, self.listens, self.ended = True, True, asyncio.Event()
        self.log.append("serves")

    def close(self) -> None:
        self.listens = False

    async def stop(self) -> None:
        self.listens = False
        await asyncio.sleep(self.ending)
        if self.running:
            self.running = False
            self.log.append("-serves")

    async def wait(self) -> bool:
        await self.ended.wait()
        return self.lost_listener

    def die(self, *, lost_listener: bool = False) -> None:
        self.lost_listener = lost_listener
        self.running = self.listens = False
        self.ended.set()


class ApiHarness:
    """An API with everything around it simulated."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.server = Server(self.log)
        self.looks = 0
        self.away = False
        self.knows = self.is_sure = True
        self.orders: asyncio.Queue[bool] = asyncio.Queue()
        self.api = ApiService(self.server, ("127.0.0.1", 1), self.look)
        self.following = asyncio.create_task(self.api.follow(self.each()))

    async def look(self) -> Sight:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("away")
        return Sight(self.knows, self.knows and self.is_sure)

    async def each(self) -> AsyncIterator[bool]:
        while True:
            yield await self.orders.get()

    async def order(self, *, serve: bool, seconds: float = 1.0) -> None:
        await self.orders.put(serve)
        await asyncio.sleep(seconds)


@pytest.fixture
async def harness() -> AsyncIterator[ApiHarness]:
    made = ApiHarness()
    yield made
    made.following.cancel()
    await asyncio.wait([made.following])
    assert not made.server.running


async def test_it_serves_while_it_is_ordered(harness: ApiHarness) -> None:
    """A repeated order changes nothing."""
    for serve in (False, True, True, False, False, True):
        await harness.order(serve=serve)
    assert harness.log == ["serves", "-serves", "serves"]


@pytest.mark.parametrize(("lost_listener", "failures"), [(False, 1), (True, 0)])
async def test_a_server_that_ended_is_started_again(
    harness: ApiHarness, lost_listener: bool, failures: int
) -> None:
    """An API that should serve must not stay unreachable; losing its distributor is no failure."""
    with structlog.testing.capture_logs() as logged:
        await harness.order(serve=True)
        harness.server.die(lost_listener=lost_listener)
        await asyncio.sleep(1)
    assert harness.server.running
    assert len([entry for entry in logged if entry["log_level"] == "error"]) == failures


async def test_it_serves_as_soon_as_the_port_is_free(harness: ApiHarness) -> None:
    """A former active may still hold it."""
    harness.server.taken = True
    await harness.order(serve=True)
    assert not harness.server.running
    harness.server.taken = False
    await asyncio.sleep(0.05)
    assert harness.server.running


async def test_an_end_while_it_waits_for_the_port_leaves_nothing(harness: ApiHarness) -> None:
    """Flapping leadership."""
    harness.server.taken = True
    await harness.order(serve=True)
    await harness.order(serve=False)
    harness.server.taken = False
    await asyncio.sleep(1)
    assert harness.log == []


async def test_it_says_that_it_ended_when_it_does_not_listen_any_more(harness: ApiHarness) -> None:
    """Not before, as the next server waits for its port; and not much later."""
    assert not harness.api.serving
    harness.server.taken = True
    await harness.order(serve=True)
    assert harness.api.serving, "it may listen at any moment"
    harness.server.taken = False
    await asyncio.sleep(1)
    harness.server.ending = 5.0
    await harness.order(serve=False)
    assert harness.server.running, "requests that run go on"
    assert not harness.server.listens
    assert not harness.api.serving
    await harness.order(serve=True, seconds=10)
    assert harness.server.listens
    assert harness.api.serving
    harness.server.ending = 0.0  # the fixture ends it in real time


@pytest.mark.parametrize("away", [False, True])
async def test_it_serves_nobody_before_it_knows_the_nodes(harness: ApiHarness, away: bool) -> None:
    """A node whose first answer was late would be reported as down; the wait is bounded."""
    harness.knows, harness.away = False, away
    await harness.order(serve=True, seconds=WARM_UP_SECONDS - 1)
    assert harness.log == []
    assert harness.api.serving
    await asyncio.sleep(1.5)
    assert harness.server.running


async def test_it_serves_as_soon_as_it_knows_the_nodes(harness: ApiHarness) -> None:
    """Until then it observes more often."""
    harness.knows = False
    await harness.order(serve=True)
    harness.knows = True
    await asyncio.sleep(1)
    assert harness.server.running


async def test_it_knows_the_nodes_before_it_is_to_serve(harness: ApiHarness) -> None:
    """The former active may be lost with its node: then no client waits until that is certain."""
    await asyncio.sleep(3 * STANDBY_OBSERVATION_SECONDS)
    assert 3 <= harness.looks <= 5
    harness.knows = False
    await harness.order(serve=True, seconds=0.1)
    assert harness.server.running
    assert harness.looks >= 4, "it looks at once when it is to serve"


@pytest.mark.parametrize("known", [True, False])
async def test_it_looks_more_often_while_a_node_misses_its_looks(
    harness: ApiHarness, known: bool
) -> None:
    """Until that node's state is certain; before and after that the cluster is left in peace."""
    await harness.order(serve=True, seconds=1.0)
    looks = harness.looks
    await asyncio.sleep(5 * OBSERVATION_SECONDS)
    assert 4 <= harness.looks - looks <= 6
    harness.knows, harness.is_sure = known, False
    await asyncio.sleep(OBSERVATION_SECONDS)
    looks = harness.looks
    await asyncio.sleep(10.0)
    assert 9 <= harness.looks - looks <= 11, "one each second"
    harness.knows = harness.is_sure = True
    await asyncio.sleep(MISSED_OBSERVATION_SECONDS)
    looks = harness.looks
    await asyncio.sleep(5 * OBSERVATION_SECONDS)
    assert 4 <= harness.looks - looks <= 6


async def test_it_looks_at_the_cluster_while_it_serves(harness: ApiHarness) -> None:
    """A node's state depends on several observations; a store outage ends none of this."""
    await asyncio.sleep(1)
    harness.away = True
    await harness.order(serve=True, seconds=5 * OBSERVATION_SECONDS)
    looks = harness.looks
    assert looks >= 4
    await harness.order(serve=False)
    await asyncio.sleep(STANDBY_OBSERVATION_SECONDS)
    assert harness.looks <= looks + 3
    assert harness.server.running is False


@pytest.mark.parametrize(
    ("fails", "listens", "missed", "known"),
    [
        (None, True, {}, Sight(complete=True, certain=True)),
        (None, False, {}, Sight()),
        (None, True, {"unsure": True, "patroni": None}, Sight()),
        (None, True, {"unsure": True}, Sight(complete=True)),
        (LookupError("the cluster has no configuration yet"), True, {}, Sight()),
    ],
)
async def test_all_is_known_after_a_whole_look(
    fails: Exception | None, listens: bool, missed: dict[str, Any], known: Sight
) -> None:
    """Of each node, and from the nodes' reports; a cluster not yet configured is no error."""
    world = ObservationBuilder()
    world.node("b-2", **missed)

    async def observe() -> object:
        if fails:
            raise fails
        return world.seen

    hearing = SimpleNamespace(connected=listens)
    services = SimpleNamespace(observe=observe, observer=SimpleNamespace(node_reports=hearing))
    assert await observe_cluster(cast("Any", services)) == known


def test_a_worker_that_cannot_share_its_marks_reads_from_no_copy(tmp_path: Path) -> None:
    """Its copy would show sessions that another worker has ended."""
    layout = Layout(tmp_path)
    layout.api_writes.mkdir(parents=True)  # in place of the file
    with structlog.testing.capture_logs() as logged:
        assert write_marks(layout, ApiWorker(1, 2)) is None
    assert "Is a directory" in logged[0]["reason"]
    failing: dict[str, str | None] = {}
    observer = SimpleNamespace(node_reports=SimpleNamespace(run=None))
    services = cast(Services, SimpleNamespace(failing=failing.__setitem__, observer=observer))
    assert COPY not in background_work(services, copies=False)
    assert set(failing) == {COPY}
    assert write_marks(layout, ApiWorker()) is not None
