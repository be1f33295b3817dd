"""The API as the processes that a supervisor starts: two workers, and what accepts for them.

Only the service's end is this test's. There is no store, so clients learn only that they are not
authenticated.
"""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.nodes import Lab
from tests.support.sockets import connections
from tests.support.waiting import until_async

from openvcha.daemon.api_processes.links import ApiLinks
from openvcha.daemon.api_processes.orders import Orders
from openvcha.node.layout import Layout
from openvcha.node.process.logs import RotatingLog, log_path, logger
from openvcha.node.process.managed_process import Part, PartSpec, stop_all
from openvcha.node.supervisor.plan import api_parts

WORKERS = 2
DEADLINE = 300.0
PATH = "/api/session"
SOURCES = [f"127.0.0.{last}" for last in range(2, 18)]
"""One run in 32,768 does not meet both workers."""


class ProcessesHarness:
    """A node's API, with the service's end of its orders."""

    def __init__(self, lab: Lab) -> None:
        # On `local`, the service would have to run a switch, which listens for the API.
        node = lab.node("a", 1, {"a": 1}, infrastructure={"kind": "none"})
        self.layout = Layout(node.directory)
        self.layout.make_directories()
        self.address = node.identity.public_address, node.identity.ports.api
        authority = str(self.layout.service_ca)
        self.tls = ssl.create_default_context(cafile=authority)
        self.failing: Mapping[str, str] = {}
        self.links = ApiLinks(self.layout, WORKERS, lambda serve: Orders(serve=serve), self._note)
        self.running: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(one()) for one in self.links.works().values()
        ]
        specs = api_parts(self.layout, os.environ, WORKERS)
        self.parts = {spec.name: self._part(spec) for spec in specs}

    def _part(self, spec: PartSpec) -> Part:
        log = RotatingLog(log_path(self.layout.logs, spec.name))
        return Part(spec, log, logger(log, spec.name), lambda: None)

    def _note(self, failing: Mapping[str, str]) -> None:
        self.failing = failing

    def begin(self) -> None:
        for part in self.parts.values():
            part.begin()
        self.links.serve()

    async def end(self) -> None:
        await stop_all(list(self.parts.values()))
        for one in self.running:
            one.cancel()
        await asyncio.wait(self.running)

    def pid(self, name: str) -> int:
        """Return the process of a part, 0 while there is none."""
        return self.parts[name].status.pid or 0

    def client(self, source: str) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(verify=self.tls, local_address=source)
        host, port = self.address
        url = f"https://{host}:{port}"
        return httpx2.AsyncClient(transport=transport, base_url=url, timeout=DEADLINE)

    async def answers(self, client: httpx2.AsyncClient) -> bool:
        try:
            return (await client.get(PATH)).status_code == 401
        except httpx2.TransportError:
            return False

    async def refuses(self, client: httpx2.AsyncClient) -> bool:
        try:
            await client.get(PATH)
        except httpx2.TransportError as error:
            return isinstance(error, httpx2.ConnectError)
        return False

    async def until_it_answers(self, client: httpx2.AsyncClient) -> None:
        await until_async(lambda: self.answers(client), DEADLINE, seen=lambda: self.failing)

    def served_by(self, name: str) -> set[str]:
        """Return the sources whose connections a part has."""
        try:
            found = connections(self.pid(name))
        except OSError:
            return set()
        return {one.remote for one in found if one.local_port == self.address[1]}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ProcessesHarness]:
    lab = Lab(tmp_path)
    made = ProcessesHarness(lab)
    yield made
    await made.end()
    await asyncio.to_thread(lab.end)


async def test_workers_serve_end_and_return(harness: ProcessesHarness) -> None:
    """Each source meets one; a killed one costs its sources a reconnect, a stop ends all."""
    harness.begin()
    async with AsyncExitStack() as stack:
        clients = {
            source: await stack.enter_async_context(harness.client(source)) for source in SOURCES
        }
        for client in clients.values():
            await harness.until_it_answers(client)
        await until_async(
            lambda: bool(harness.served_by("api-1") and harness.served_by("api-2")), DEADLINE
        )
        first = {name: harness.served_by(name) for name in ("api-1", "api-2")}
        for client in clients.values():
            assert await harness.answers(client)
        assert {name: harness.served_by(name) for name in first} == first
        assert first["api-1"] | first["api-2"] <= set(SOURCES)
        assert not first["api-1"] & first["api-2"]

        os.kill(harness.pid("api-1"), signal.SIGKILL)
        for source in first["api-1"]:
            await harness.until_it_answers(clients[source])
        for source in first["api-2"]:
            assert await harness.answers(clients[source])
        assert first["api-2"] <= harness.served_by("api-2")

        before = harness.pid("api")
        os.kill(before, signal.SIGKILL)
        await until_async(lambda: harness.pid("api") not in {0, before}, DEADLINE)
        for client in clients.values():
            await harness.until_it_answers(client)

        harness.links.end()
        for client in clients.values():
            await until_async(partial(harness.refuses, client), DEADLINE)
