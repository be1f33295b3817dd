"""Strangers at the API: whatever they hold open or send, no user is locked out."""

import asyncio
import contextlib
import os
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.attackers import crowd
from tests.support.edge import (
    ADMINISTRATOR,
    PASSWORD,
    READER,
    Edge,
    Served,
    Simulated,
    TlsFiles,
    make_edge,
    make_tls,
)
from tests.support.kernel import accepted
from tests.support.workers import distributing

from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.passwords import Passwords
from openvcha.api_server.concurrency import USERS
from openvcha.api_server.connection_limits import part_of_connections, within_descriptor_limit
from openvcha.api_server.http import ANONYMOUS_BODY
from openvcha.api_server.server.https import HttpsServer, Limits

CROWD = (750, 300)
"""So many that do not even begin TLS, and then so many that do."""
CONNECTION_BYTES = 140_000
"""Each of asyncio's own would take twice as much."""
SESSION = "/api/session"
JSON = {"content-type": "application/json"}
HOSTS = "/api/vcenter/host"
OFFICE = "127.0.0.9"
MEGABYTE = 1 << 20
PATIENCE = 60.0
KEPT = httpx2.Limits(keepalive_expiry=600)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Return a certificate for 127.0.0.1."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge with an administrator, a reader and a user without access."""
    made = await make_edge()
    async with made.client:
        yield made


@pytest.fixture(params=[1, 2])
def limits(request: pytest.FixtureRequest) -> Limits:
    """Return a cluster's limits for one or two workers, except for the timeouts."""
    connections = part_of_connections(Limits.connections, request.param)
    return Limits(
        request_seconds=300,
        keep_alive_seconds=300,
        handshake_seconds=300,
        connections=connections,
    )


@pytest.fixture
async def served(
    edge: Edge, tls: TlsFiles, limits: Limits, tmp_path: Path
) -> AsyncIterator[Served]:
    """Serve it, by two workers if the limits are theirs."""
    if limits.connections < Limits.connections:
        async with distributing(tmp_path, [edge.app, edge.app], tls, limits) as workers:
            yield Served(edge, workers.servers[0], workers.port, tls)
        return
    server = HttpsServer(edge.app, tls.certificate, tls.key, limits=limits)
    _, port = await server.start("127.0.0.1", 0)
    yield Served(edge, server, port, tls)
    await server.stop()


def client(served: Served, source: str = "127.0.0.1") -> httpx2.AsyncClient:
    """Return a client with its own connection, from its own address."""
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    transport = httpx2.AsyncHTTPTransport(verify=context, limits=KEPT, local_address=source)
    url = f"https://{served.where}"
    return httpx2.AsyncClient(transport=transport, base_url=url, timeout=PATIENCE)


@asynccontextmanager
async def crowded(port: int) -> AsyncIterator[None]:
    """Keep a crowd of idle connections open during a block."""
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


async def test_a_crowd_of_idle_connections_keeps_nobody_out(served: Served, limits: Limits) -> None:
    """Neither a connected client nor a new one, even from the crowd's own address.

    The cost of one such connection is measured by the growth of the whole process.
    """
    headers, most = await served.edge.headers(), within_descriptor_limit(limits.connections) // 2
    async with client(served) as old, client(served, OFFICE) as new:
        assert (await old.get(SESSION, headers=headers)).status_code == 200
        own, before = peers(served.port), resident()
        async with crowded(served.port):
            grown = resident() - before
            assert (await new.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).status_code == 201
            assert await logged_in_from_there(served) == 201
            assert (await old.get(SESSION, headers=headers)).status_code == 200
            there = peers(served.port)
    assert own <= there, "the connection of who worked was cut off"
    assert most // 2 < len(there) <= most
    assert grown / most < CONNECTION_BYTES


async def logged_in_from_there(served: Served) -> int:
    """Log in from the crowd's address, as soon as its storm of connections is over."""
    async with client(served) as new, asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                return (await new.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).status_code


async def test_large_bodies_of_strangers_are_not_parsed(served: Served) -> None:
    """16 connections send 1 MiB each, repeatedly, while a user works.

    Such a body takes seconds to parse: each key of each object occurs twice.
    """
    body = b"[" + b",".join([b'{"a":1,"a":1}'] * (MEGABYTE // 14)) + b"]"
    headers, at_work = await served.edge.headers(), asyncio.Event()

    async def attack(stranger: httpx2.AsyncClient) -> None:
        for token in ({}, {"vmware-api-session-id": "f" * 64}, {}):
            answer = await stranger.post("/api", content=body, headers={**JSON, **token})
            assert (
                f"larger than {ANONYMOUS_BODY.max_bytes} bytes" in answer.json()["error"]["message"]
            )
        at_work.set()

    async with AsyncExitStack() as stack, client(served) as worker, asyncio.timeout(4 * PATIENCE):
        strangers = [await stack.enter_async_context(client(served)) for _ in range(16)]
        attacks = asyncio.gather(*map(attack, strangers))
        while not at_work.is_set():
            assert (await worker.get(SESSION, headers=headers)).status_code == 200
        assert (await worker.post(SESSION, auth=(ADMINISTRATOR, PASSWORD))).status_code == 201
        await attacks


async def test_wrong_log_ins_keep_nobody_waiting(served: Served) -> None:
    """40 at once, repeatedly, each of which costs what a password costs in a cluster."""
    served.edge.users._passwords = Passwords()
    await served.edge.users.add("new@vsphere.local", Secret(PASSWORD), UserRole.READ_ONLY)
    headers, at_work = await served.edge.headers(), asyncio.Event()

    async def attack(number: int, stranger: httpx2.AsyncClient) -> set[int]:
        answers = set()
        for turn in range(3):
            name = f"made-up-{number}-{turn}"
            answers.add((await stranger.post(SESSION, auth=(name, "wrong"))).status_code)
        at_work.set()
        return answers

    async with (
        AsyncExitStack() as stack,
        client(served) as worker,
        client(served, OFFICE) as new,
        asyncio.timeout(4 * PATIENCE),
    ):
        strangers = [await stack.enter_async_context(client(served)) for _ in range(40)]
        attacks = asyncio.gather(*(attack(*each) for each in enumerate(strangers)))
        while not at_work.is_set():
            assert (await worker.get(SESSION, headers=headers)).status_code == 200
        while (answer := await new.post(SESSION, auth=("new@vsphere.local", PASSWORD))).is_error:
            # On a busy machine his turn may not come in time: he retries.
            assert answer.status_code == 503
            await asyncio.sleep(int(answer.headers["retry-after"]))
        assert answer.status_code == 201
        assert set().union(*await attacks) == {401, 503}


async def test_a_greedy_reader_keeps_nobody_waiting(served: Served) -> None:
    """64 connections call slow operations repeatedly; too many at once are refused."""
    dispatcher, inside = served.edge.dispatcher, Counter[str]()
    most = 0

    async def invoke(operation: Any, arguments: Any, caller: Any) -> Any:
        nonlocal most
        inside[caller.user] += 1
        most = max(most, inside[READER])
        await asyncio.sleep(0.02)  # SIMULATED: asking the infrastructure
        inside[caller.user] -= 1
        return await Simulated.invoke(dispatcher, operation, arguments, caller)

    dispatcher.invoke = invoke  # type: ignore[method-assign]  # of this one
    headers, own = await served.edge.headers(READER), await served.edge.headers()

    async def attack(reader: httpx2.AsyncClient) -> None:
        for _ in range(3):
            assert (await reader.get(HOSTS, headers=headers)).status_code in {200, 503}

    async with AsyncExitStack() as stack, client(served) as worker, asyncio.timeout(4 * PATIENCE):
        readers = [await stack.enter_async_context(client(served)) for _ in range(64)]
        attacks = asyncio.gather(*map(attack, readers))
        while not attacks.done():
            assert (await worker.get(HOSTS, headers=own)).status_code == 200
        await attacks
    assert most == USERS.max_per_owner


def peers(port: int) -> set[int]:
    """Return the ports of the connected clients."""
    connections = accepted(port)
    try:
        return {connection.getpeername()[1] for connection in connections}
    finally:
        for connection in connections:
            connection.close()


def resident() -> int:
    """Return this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
