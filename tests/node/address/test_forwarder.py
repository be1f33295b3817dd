"""The public address: forwarded while held, gone at once when released."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.kernel import accepted, answers_at_once
from tests.support.serving import serving

from openvcha.node.address.forwarder import Forwarder
from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.settings import local_settings

OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)
POSTGRES = Postgres(Path("/x"), (15, 4), has_tls=True, source="system")
HOST = "127.0.0.1"
START = b"\0\0\0\x08\0\x03\0\0"


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """Yield the port of a server that echoes what it receives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with serving(serve, HOST) as port:
        yield port


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the other side has ended the connection, in whichever way."""
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_data_pass_both_ways(echo: int) -> None:
    """Large data arrive complete, and the end of one direction reaches the other side."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.acquire()
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    data = bytes(range(256)) * 8192
    writer.write(data)
    writer.write_eof()
    assert await reader.read(-1) == data
    writer.close()
    await writer.wait_closed()
    await forwarder.release()


async def test_small_answers_wait_for_no_acknowledgement(echo: int) -> None:
    """Otherwise each answer in two writes costs its client 40 ms."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.acquire()
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    writer.write(START)
    assert await reader.readexactly(len(START)) == START
    assert answers_at_once(forwarder.port)
    writer.transport.abort()
    await forwarder.release()


async def test_a_lost_client_is_detected_as_by_postgresql(echo: int) -> None:
    """Otherwise one that vanishes keeps its place and its locks."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.acquire()
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    writer.write(START)
    assert await reader.readexactly(len(START)) == START
    held = accepted(forwarder.port)
    found = [[one.getsockopt(*option) for option in OPTIONS] for one in held]
    for one in held:
        one.close()
    assert found
    assert all(each == [1, 5, 2, 3, 10_000] for each in found)
    settings = local_settings(Layout(Path("/x")), POSTGRES)
    told = ("idle", "interval", "count")
    assert [settings[f"tcp_keepalives_{name}"] for name in told] == [5, 2, 3]
    assert settings["tcp_user_timeout"] == "10s"
    writer.transport.abort()
    await forwarder.release()


async def test_release_ends_open_connections_at_once(echo: int) -> None:
    """A session through the address cannot outlive it."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.acquire()
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    writer.write(START)
    assert await reader.readexactly(len(START)) == START
    port = forwarder.port
    async with asyncio.timeout(30):
        await forwarder.release()
        assert await ended(reader)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    assert not forwarder.held
    writer.transport.abort()


@pytest.mark.parametrize("turns", range(8))
async def test_release_ends_a_connection_that_has_just_come(echo: int, turns: int) -> None:
    """However far it got: its client must see the end, not wait for ever."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.acquire()
    client = socket.create_connection((HOST, forwarder.port))
    client.setblocking(False)
    for _ in range(turns):
        await asyncio.sleep(0)
    await forwarder.release()
    reader, writer = await asyncio.open_connection(sock=client)
    async with asyncio.timeout(30):
        assert await ended(reader)
    writer.transport.abort()


async def test_two_holders_exclude_each_other(echo: int) -> None:
    """The second gets the address only when the first has released it."""
    first = Forwarder((HOST, 0), (HOST, echo))
    await first.acquire()
    second = Forwarder((HOST, first.port), (HOST, echo))
    with pytest.raises(OSError, match="in use"):
        await second.acquire()
    await first.release()
    await second.acquire()
    assert second.held
    await second.release()


async def test_a_lost_target_ends_the_connection() -> None:
    """Clients of an address whose database is down are refused, not kept waiting."""
    forwarder = Forwarder((HOST, 0), (HOST, 1))
    await forwarder.acquire()
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    writer.write(START)
    assert await ended(reader)
    writer.transport.abort()
    await forwarder.release()


async def test_acquire_and_release_may_be_repeated(echo: int) -> None:
    """Both acquire and release are idempotent."""
    forwarder = Forwarder((HOST, 0), (HOST, echo))
    await forwarder.release()
    await forwarder.acquire()
    await forwarder.acquire()
    await forwarder.release()
    await forwarder.release()
    with pytest.raises(ValueError, match="not held"):
        _ = forwarder.port
