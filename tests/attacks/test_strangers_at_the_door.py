"""Strangers at the API's door: what they hold and send keeps nobody out who works there."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from tests.attacks import crowd
from tests.kernel import accepted
from tests.protocols.conftest import (
    ADMINISTRATOR,
    PASSWORD,
    Edge,
    Served,
    TlsFiles,
    make_edge,
    make_tls,
)

from openvcha.protocols.door import affordable
from openvcha.protocols.http import ANYBODY
from openvcha.protocols.serve import HttpsServer, Limits

CROWD = (750, 300)
"""So many that do not even begin TLS, and then so many that do."""
CONNECTION_BYTES = 140_000
"""Each of asyncio's own would take twice as much."""
SESSION = "/api/session"
JSON = {"content-type": "application/json"}
MEGABYTE = 1 << 20
PATIENCE = 60.0
KEPT = httpx2.Limits(keepalive_expiry=600)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Return a certificate for 127.0.0.1."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Make an edge with an administrator, a reader and a user who may do nothing."""
    made = await make_edge()
    async with made.client:
        yield made


@pytest.fixture
async def served(edge: Edge, tls: TlsFiles) -> AsyncIterator[Served]:
    """Serve it with the bounds that a cluster has, but for patience."""
    limits = Limits(request_seconds=300, keep_alive_seconds=300, handshake_seconds=300)
    server = HttpsServer(edge.app, tls.certificate, tls.key, limits=limits)
    _, port = await server.start("127.0.0.1", 0)
    yield Served(edge, server, port, tls)
    await server.stop()


def client(served: Served) -> httpx2.AsyncClient:
    """Return a client with a connection of its own."""
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    url = f"https://{served.where}"
    return httpx2.AsyncClient(verify=context, base_url=url, timeout=PATIENCE, limits=KEPT)


@asynccontextmanager
async def crowded(port: int) -> AsyncIterator[None]:
    """Have a crowd of idle connections during a block."""
    attack = await asyncio.create_subprocess_exec(
        *(sys.executable, crowd.__file__, str(port), *map(str, CROWD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert attack.stdin
    assert attack.stdout
    try:
        assert await asyncio.wait_for(attack.stdout.readline(), 4 * PATIENCE) == b"open\n"
        yield
    finally:
        attack.stdin.close()
        await attack.wait()


async def test_a_crowd_of_idle_connections_keeps_nobody_out(served: Served) -> None:
    """Neither who is there already, nor who comes, both from the crowd's own address.

    What one of the crowd costs is measured by what the whole process grows.
    """
    headers, most = await served.edge.headers(), affordable(Limits().connections) // 2
    async with client(served) as old, client(served) as new:
        assert (await old.get(SESSION, headers=headers)).status_code == 200
        own, before = peers(served.port), resident()
        async with crowded(served.port):
            grown = resident() - before
            assert (await new.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).status_code == 201
            assert (await old.get(SESSION, headers=headers)).status_code == 200
            there = peers(served.port)
    assert own <= there, "the connection of who worked was cut off"
    assert most // 2 < len(there) <= most
    assert grown / most < CONNECTION_BYTES


async def test_large_bodies_of_strangers_are_not_parsed(served: Served) -> None:
    """16 connections send 1 MiB each, again and again, while somebody works here.

    Such a body takes seconds to parse: each key of each object is there twice.
    """
    body = b"[" + b",".join([b'{"a":1,"a":1}'] * (MEGABYTE // 14)) + b"]"
    headers, at_work = await served.edge.headers(), asyncio.Event()

    async def attack(stranger: httpx2.AsyncClient) -> None:
        for token in ({}, {"vmware-api-session-id": "f" * 64}, {}):
            answer = await stranger.post("/api", content=body, headers={**JSON, **token})
            assert f"larger than {ANYBODY.most} bytes" in answer.json()["error"]["message"]
        at_work.set()

    async with AsyncExitStack() as stack, client(served) as worker, asyncio.timeout(4 * PATIENCE):
        strangers = [await stack.enter_async_context(client(served)) for _ in range(16)]
        attacks = asyncio.gather(*map(attack, strangers))
        while not at_work.is_set():
            assert (await worker.get(SESSION, headers=headers)).status_code == 200
        assert (await worker.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).status_code == 201
        await attacks


def peers(port: int) -> set[int]:
    """Return the ports of the clients that are connected."""
    connections = accepted(port)
    try:
        return {connection.getpeername()[1] for connection in connections}
    finally:
        for connection in connections:
            connection.close()


def resident() -> int:
    """Return the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
