"""A server whose connections another process accepts: it serves them as its own."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, Edge, TlsFiles
from tests.support.kernel import answers_at_once
from tests.support.waiting import until_async
from tests.support.workers import Workers, distributing, worker_server

from openvcha.api_server.server.passed_connections import PassedConnections, pass_connection

BASIC = (ADMINISTRATOR, PASSWORD)
DEADLINE = 60.0


@pytest.fixture
async def workers(edge: Edge, tls: TlsFiles, tmp_path: Path) -> AsyncIterator[Workers]:
    async with distributing(tmp_path, [edge.app], tls) as made:
        yield made


def client(workers: Workers, tls: TlsFiles) -> httpx2.AsyncClient:
    context = ssl.create_default_context(cafile=str(tls.authority))
    url = f"https://127.0.0.1:{workers.port}"
    return httpx2.AsyncClient(verify=context, base_url=url, timeout=DEADLINE)


async def test_it_speaks_https(workers: Workers, tls: TlsFiles, edge: Edge) -> None:
    """It knows who calls, as the audit shows."""
    async with client(workers, tls) as https:
        created = await https.post("/api/session", auth=BASIC)
        assert created.status_code == 201
        header = {"vmware-api-session-id": created.json()}
        assert (await https.get("/api/session", headers=header)).status_code == 200
    assert [record.origin for record in await edge.audit.list()] == ["127.0.0.1"]


async def test_small_answers_wait_for_no_acknowledgement(workers: Workers, tls: TlsFiles) -> None:
    """As with a socket of its own."""
    async with client(workers, tls) as https:
        await https.get("/api/nothing")
        assert answers_at_once(workers.port)


async def test_it_ends_with_what_accepts_and_starts_again(
    edge: Edge, tls: TlsFiles, tmp_path: Path
) -> None:
    """Its open connections end too; the next start finds the next distributor."""
    async with distributing(tmp_path, [edge.app], tls) as first, client(first, tls) as https:
        assert (await https.get("/api/nothing")).status_code == 404
        (server,) = first.servers
        first.distributor._drop(first.distributor._channels[1])
        assert await asyncio.wait_for(server.wait(), DEADLINE)
        assert not server.running
        with pytest.raises(OSError, match="does not accept workers yet"):
            await worker_server(tmp_path / "none", 1, edge.app, tls).start("127.0.0.1", 0)
        await server.start("127.0.0.1", 0)
        await first.until_connected(1)
        assert (await https.get("/api/nothing")).status_code == 404


@pytest.fixture
def channels() -> Iterator[tuple[socket.socket, PassedConnections]]:
    """Return both ends of a channel."""
    one, other = socket.socketpair()
    one.setblocking(False)
    passed = PassedConnections(other, ("127.0.0.1", 1))
    with one, contextlib.closing(passed):
        yield one, passed


async def test_a_client_that_has_gone_is_skipped(
    channels: tuple[socket.socket, PassedConnections],
) -> None:
    """It may reset its connection on the way."""
    one, passed = channels
    with pytest.raises(BlockingIOError):
        passed.accept()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(2):
            with socket.create_connection(listener.getsockname()) as gone:
                accepted, _ = listener.accept()
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await until_async(partial(_is_reset, accepted), DEADLINE, pause=0.01)
            with accepted:
                pass_connection(one, accepted)
            with pytest.raises(ConnectionAbortedError):
                passed.accept()
    one.close()
    with pytest.raises(EOFError):
        passed.accept()


def _is_reset(accepted: socket.socket) -> bool:
    try:
        accepted.getpeername()
    except OSError:
        return True
    return False


async def test_a_connection_without_a_descriptor_left_is_no_end(
    channels: tuple[socket.socket, PassedConnections],
) -> None:
    """The kernel drops it; idle ones then make room for the next."""
    one, passed = channels
    one.send(b"\0")
    with pytest.raises(OSError, match="no descriptor is left"):
        passed.accept()
