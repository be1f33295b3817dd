"""Real etcd members with TLS on their own loopback addresses, and both kinds of store."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.etcd_servers import Server, make_servers

from openvcha.store.etcd.client import Etcd
from openvcha.store.memory import MemoryStore


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Return one running member of a kind, started on first use."""
    running: dict[str, Server] = {}

    def start(kind: str) -> Server:
        if kind not in running:
            (server,) = make_servers(kind, tmp_path_factory.mktemp(f"etcd-{kind}"), 1)
            running[kind] = server
            server.start([server])
            asyncio.run(server.ready())
        return running[kind]

    yield start
    for server in running.values():
        server.kill()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("system", marks=pytest.mark.engines),
        pytest.param("wheel", marks=pytest.mark.engines),
    ]
)
async def store(
    request: pytest.FixtureRequest, single: Callable[[str], Server]
) -> AsyncIterator[MemoryStore | Etcd]:
    """Return each kind of store: the test must pass on all of them."""
    if request.param == "memory":
        yield MemoryStore()
        return
    # The session's member starts in a thread: its wait needs its own event loop.
    server = await asyncio.to_thread(single, request.param)
    async with Etcd([server.url], server.tls.source()) as client:
        yield client


@pytest.fixture
def root() -> str:
    """Return the test's own prefix, so that tests may share a server."""
    return f"/test/{secrets.token_hex(8)}/"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Prepare three members with the system's etcd; they are stopped after the module's tests."""
    members = make_servers("system", tmp_path_factory.mktemp("three"), 3)
    yield members
    for server in members:
        server.kill()


@pytest.fixture
async def servers(three: list[Server]) -> list[Server]:
    """Return a running cluster of three; members killed or frozen by an earlier test run again."""
    for server in three:
        if server.process is None:
            server.start(three)
        server.signal(signal.SIGCONT)
    await asyncio.gather(*(server.ready() for server in three))
    return three


@pytest.fixture
async def client(servers: list[Server]) -> AsyncIterator[Etcd]:
    """Return a client of the three members, with a short timeout."""
    urls = [server.url for server in servers]
    async with Etcd(urls, servers[0].tls.source(), timeout=4.0, silence=0.3) as etcd:
        yield etcd


@pytest.fixture
def make_members() -> Callable[[str, Path, int], list[Server]]:
    """Return what prepares members that a test starts with its own flags."""
    return make_servers
