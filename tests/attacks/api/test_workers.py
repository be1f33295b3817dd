"""Two workers serve the API: what one of them knows about a caller cannot be evaded by another.

Each is an edge of its own, with its own copy of one store.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from tests.support.edge import (
    ADMINISTRATOR,
    PASSWORD,
    READER,
    Edge,
    TlsFiles,
    make_edge,
    make_tls,
)
from tests.support.kernel import accepted
from tests.support.simulated.mirrored import Remote, mirrored
from tests.support.workers import Workers, distributing

from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.throttle import FREE_ATTEMPTS
from openvcha.api_server.server.https import Limits
from openvcha.daemon.api_processes.distributor import worker_of
from openvcha.store.write_marks import SharedWrites

SESSION, READ = "/api/session", "/api/vcenter/vcha/operations"
HEADER = "vmware-api-session-id"
PATIENCE = 60.0
LAG_SECONDS = 0.05
"""How much later than its acknowledgement a write reaches the copies."""


@dataclass(frozen=True)
class WorkersHarness:
    """Two workers over one store."""

    remote: Remote
    edges: tuple[Edge, Edge]
    workers: Workers
    tls: TlsFiles

    def sources_of(self, number: int) -> Iterator[str]:
        """Yield the addresses from which a worker is met."""
        for last in range(1, 255):
            source = f"127.0.0.{last}"
            if worker_of(source, [1, 2], self.workers.distributor._key) == number:
                yield source

    def client(self, source: str) -> httpx2.AsyncClient:
        """Return a client at an address."""
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        transport = httpx2.AsyncHTTPTransport(verify=context, local_address=source)
        url = f"https://127.0.0.1:{self.workers.port}"
        return httpx2.AsyncClient(transport=transport, base_url=url, timeout=PATIENCE)

    def connected_from(self, source: str) -> set[int]:
        """Return the ports of the connections from an address."""
        connections = accepted(self.workers.port)
        try:
            found = {connection.getpeername() for connection in connections}
        finally:
            for connection in connections:
                connection.close()
        return {port for address, port in found if address == source}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Return a certificate for 127.0.0.1."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def harness(tmp_path: Path, tls: TlsFiles) -> AsyncIterator[WorkersHarness]:
    remote = Remote()
    await make_edge_users(remote)
    async with AsyncExitStack() as stack:
        edges = []
        for number in (1, 2):
            marks = SharedWrites(tmp_path / "writes", number)
            mirror = await stack.enter_async_context(mirrored(remote, writes=marks))
            edge = await make_edge(remote, mirror=mirror)
            await stack.enter_async_context(edge.client)
            edges.append(edge)
        apps = [edge.app for edge in edges]
        workers = await stack.enter_async_context(distributing(tmp_path, apps, tls))
        yield WorkersHarness(remote, (edges[0], edges[1]), workers, tls)


async def make_edge_users(remote: Remote) -> None:
    """Add the users of an edge, which a second edge over the same store does not add."""
    edge = await make_edge(remote)
    async with edge.client:
        await edge.users.add(ADMINISTRATOR, Secret(PASSWORD), UserRole.ADMINISTRATOR)
        await edge.users.add(READER, Secret(PASSWORD), UserRole.READ_ONLY)


async def test_a_lock_out_cannot_be_evaded_by_another_connection(harness: WorkersHarness) -> None:
    """Whatever the attacker's port: his source meets one worker, which counts all attempts."""
    attacker = next(harness.sources_of(1))
    answers = []
    for _ in range(3 * FREE_ATTEMPTS):
        async with harness.client(attacker) as stranger:
            answer = await stranger.post(SESSION, auth=(READER, "wrong"))
            assert answer.status_code == 401
            answers.append("retry-after" in answer.headers)
    assert answers == [False] * FREE_ATTEMPTS + [True] * (2 * FREE_ATTEMPTS)
    async with harness.client(attacker) as stranger:
        assert (await stranger.post(SESSION, auth=(READER, PASSWORD))).status_code == 401
    for number in (1, 2):
        office = next(source for source in harness.sources_of(number) if source != attacker)
        async with harness.client(office) as user:
            assert (await user.post(SESSION, auth=(READER, PASSWORD))).status_code == 201


@pytest.mark.parametrize(("begins", "ends"), [(1, 2), (2, 1), (1, 1)])
async def test_a_session_begins_and_ends_in_all_workers_at_once(
    harness: WorkersHarness, begins: int, ends: int
) -> None:
    """Whichever worker is asked next, and although its copy has not heard of it yet."""
    first, second = next(harness.sources_of(1)), next(harness.sources_of(2))
    async with harness.client(first) as one, harness.client(second) as two:
        clients = {1: one, 2: two}
        for client in clients.values():
            assert (await client.get(READ, headers={HEADER: "f" * 64})).status_code == 401
        harness.remote.lag = LAG_SECONDS
        for _ in range(5):
            created = await clients[begins].post(SESSION, auth=(ADMINISTRATOR, PASSWORD))
            header = {HEADER: created.json()}
            for client in clients.values():
                assert (await client.get(READ, headers=header)).status_code == 200
            assert (await clients[ends].delete(SESSION, headers=header)).status_code == 204
            for client in clients.values():
                assert (await client.get(READ, headers=header)).status_code == 401


async def test_a_changed_user_counts_in_all_workers_at_once(harness: WorkersHarness) -> None:
    """Another role, another password, and that there is no such user any more."""
    first, second = next(harness.sources_of(1)), next(harness.sources_of(2))
    users = harness.edges[0].users
    async with harness.client(first) as one, harness.client(second) as two:
        header = {HEADER: (await two.post(SESSION, auth=(READER, PASSWORD))).json()}
        for client in (one, two):
            assert (await client.get(READ, headers=header)).status_code == 200
        harness.remote.lag = LAG_SECONDS
        await users.set_role(READER, UserRole.NO_ACCESS)
        assert (await two.get(READ, headers=header)).status_code == 403
        await users.set_role(READER, UserRole.READ_ONLY)
        assert (await two.get(READ, headers=header)).status_code == 200
        await users.passwd(READER, Secret("another-password"))
        assert (await two.get(READ, headers=header)).status_code == 401
        auth = READER, "another-password"
        assert (await two.get(READ, auth=auth)).status_code == 200
        await users.remove(READER)
        assert (await two.get(READ, auth=auth)).status_code == 401


async def test_a_lost_worker_costs_its_callers_a_reconnect(harness: WorkersHarness) -> None:
    """Their sessions are in the store; the other worker's callers notice nothing."""
    first, second = next(harness.sources_of(1)), next(harness.sources_of(2))
    async with harness.client(first) as one, harness.client(second) as two:
        header = {HEADER: (await one.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).json()}
        for client in (one, two):
            assert (await client.get(READ, headers=header)).status_code == 200
        others = harness.connected_from(second)
        lost = harness.workers.servers[0]
        lost.close()
        await lost.stop()
        assert harness.connected_from(first) == set()
        assert (await one.get(READ, headers=header)).status_code == 200
        assert (await two.get(READ, headers=header)).status_code == 200
        assert harness.connected_from(second) == others
        await lost.start("127.0.0.1", 0)
        await harness.workers.until_connected(1, 2)
        async with harness.client(first) as again:
            assert (await again.get(READ, headers=header)).status_code == 200


async def test_a_flood_at_one_worker_leaves_the_other_alone(harness: WorkersHarness) -> None:
    """Its connections are cut off there; an administrator elsewhere keeps his."""
    attacker, office = next(harness.sources_of(1)), next(harness.sources_of(2))
    async with harness.client(office) as user, AsyncExitStack() as stack:
        header = {HEADER: (await user.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).json()}
        own = harness.connected_from(office)
        for _ in range(Limits.connections):
            stranger = stack.enter_context(socket.socket())
            stranger.bind((attacker, 0))
            stranger.setblocking(False)
            address = "127.0.0.1", harness.workers.port
            await asyncio.get_running_loop().sock_connect(stranger, address)
        assert (await user.get(READ, headers=header)).status_code == 200
        assert harness.connected_from(office) == own
