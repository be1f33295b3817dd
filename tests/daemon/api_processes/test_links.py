"""The service controls all processes of the API as one, over a real socket for each."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until_async

from openvcha.daemon.api_processes.links import ApiLinks, processes
from openvcha.daemon.api_processes.orders import Orders, Report, receive_orders
from openvcha.node.layout import Layout

WORKERS = 2
DEADLINE = 60.0


class Api:
    """One process of the API, which obeys, and reports a failing job."""

    def __init__(self, path: Path, failing: dict[str, str]) -> None:
        self.serves = False
        self.failing = failing
        self.running = asyncio.create_task(self._follow(path))

    async def _follow(self, path: Path) -> None:
        async with aclosing(receive_orders(path, self._report)) as orders:
            async for order in orders:
                self.serves = order.serve

    def _report(self, number: int) -> Report:
        return Report(serving=self.serves, listens=self.serves, number=number, failing=self.failing)


class LinksHarness:
    """A service with the links to an API that has a distributor and workers."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.layout.make_directories()
        self.failing: Mapping[str, str] = {}
        self.links = ApiLinks(self.layout, WORKERS, lambda serve: Orders(serve=serve), self._note)
        self.running: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(one()) for one in self.links.works().values()
        ]
        self.apis = [self.api(number) for number in processes(WORKERS)]

    def api(self, number: int) -> Api:
        made = Api(self.layout.api_socket_of(number), {"API: serving": f"of {number}"})
        self.running.append(made.running)
        return made

    def _note(self, failing: Mapping[str, str]) -> None:
        self.failing = failing

    async def until_all(self, *, serve: bool) -> None:
        await until_async(
            lambda: all(api.serves is serve for api in self.apis), DEADLINE, pause=0.01
        )


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[LinksHarness]:
    made = LinksHarness(tmp_path)
    yield made
    for each in made.running:
        each.cancel()
    await asyncio.wait(made.running)


def test_a_single_process_has_the_only_link(tmp_path: Path) -> None:
    """As if there were no workers."""
    links = ApiLinks(Layout(tmp_path), 1, lambda serve: Orders(serve=serve), lambda _: None)
    assert list(links.works()) == ["API orders"]
    assert Layout(tmp_path).api_socket_of(0) == Layout(tmp_path).api_socket


async def test_all_processes_serve_and_stop_together(harness: LinksHarness) -> None:
    """The distributor and each worker."""
    assert list(harness.links.works()) == [
        "API orders",
        "API orders (worker 1)",
        "API orders (worker 2)",
    ]
    for _ in range(2):
        harness.links.serve()
        await harness.until_all(serve=True)
        harness.links.end()
        await harness.until_all(serve=False)


async def test_failures_say_whose_they_are(harness: LinksHarness) -> None:
    """Those of a process that has ended are forgotten; the others' remain."""
    harness.links.serve()
    each = {
        "API: serving": "of 0",
        "API: serving (worker 1)": "of 1",
        "API: serving (worker 2)": "of 2",
    }
    await until_async(lambda: harness.failing == each, DEADLINE, pause=0.01)
    harness.apis[1].running.cancel()
    del each["API: serving (worker 1)"]
    await until_async(lambda: harness.failing == each, DEADLINE, pause=0.01)
