"""Strangers at the database's public address never hold a client's slot for long."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from tests.support.kernel import accepted
from tests.support.serving import serving

from openvcha.node.address import forwarder as address
from openvcha.node.address.client_limit import CANCEL, SSL_REQUEST
from openvcha.node.address.forwarder import MAX_SILENT_CLIENTS, Forwarder

HOST, ELSEWHERE = "127.0.0.1", "127.0.0.2"
PLACES = 20
LATEST = 60.0
"""Bound of what has to come, not a measure."""
TLS = struct.pack("!ii", 8, SSL_REQUEST)
START = struct.pack("!ii", 80, 0x30000)
PASSWORD = struct.pack("!ii", 80, 0x30001)
"""SIMULATED: a start message that PostgreSQL answers with CONFIRMED."""
CONFIRMED = b"R" + struct.pack("!ii", 8, 0)
FLIGHTS = (TLS, b"hello", b"hello again", b"key", b"user")
"""A login over TLS 1.2 with as many messages as one that is complete over TLS 1.3."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Database:
    """SIMULATED: answers each message with one byte or CONFIRMED, and counts its clients."""

    def __init__(self) -> None:
        self.port = 0
        self.now = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            while data := await reader.read(1 << 16):
                writer.write(CONFIRMED if data == PASSWORD else b"!")
        except OSError:
            pass
        finally:
            self.now -= 1
            writer.transport.abort()


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    made = Database()
    async with serving(made.serve, HOST, backlog=1024) as made.port:
        yield made


@pytest.fixture
async def forwarder(database: Database) -> AsyncIterator[Forwarder]:
    made = Forwarder((HOST, 0), (HOST, database.port), lambda: PLACES)
    await made.acquire()
    yield made
    await made.release()
    await asyncio.sleep(0.05)


@asynccontextmanager
async def clients(
    forwarder: Forwarder, number: int, *sent: bytes, source: str = HOST
) -> AsyncIterator[list[Streams]]:
    """Connect this many; each sends its messages and waits for the answer to each."""
    found: list[Streams] = []
    try:
        for _ in range(number):
            reader, writer = await asyncio.open_connection(
                HOST, forwarder.port, local_addr=(source, 0)
            )
            found.append((reader, writer))
            for message in sent:
                writer.write(message)
                async with asyncio.timeout(LATEST):
                    assert await reader.read(100) in {b"!", CONFIRMED}
        yield found
    finally:
        for _, writer in found:
            writer.transport.abort()
        await asyncio.sleep(0.05)


async def answer(forwarder: Forwarder, *sent: bytes) -> bytes:
    """Return the answer to the first message of one more client."""
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    try:
        async with asyncio.timeout(LATEST):
            writer.write(sent[0])
            return await reader.read(100)
    finally:
        writer.transport.abort()


async def test_520_silent_clients_cost_neither_a_place_nor_descriptors(
    forwarder: Forwarder, database: Database
) -> None:
    """The oldest of them are closed; the database never sees them."""
    async with clients(forwarder, 520):
        assert await answer(forwarder, START) == b"!"
        held = accepted(forwarder.port)
        for one in held:
            one.close()
        assert len(held) <= MAX_SILENT_CLIENTS + 2
        assert database.most == 1


async def test_a_silent_client_is_ended_soon(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that has begun its first message."""
    monkeypatch.setattr(address, "START_SECONDS", 0.1)
    for sent in (b"", START[:-1]):
        reader, writer = await asyncio.open_connection(HOST, forwarder.port)
        writer.write(sent)
        async with asyncio.timeout(LATEST):
            assert await reader.read() == b""
        writer.transport.abort()


@pytest.mark.parametrize("sent", [FLIGHTS[:2], FLIGHTS], ids=["at once", "in the last message"])
async def test_195_stuck_log_ins_keep_nobody_out(
    forwarder: Forwarder,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    sent: tuple[bytes, ...],
) -> None:
    """The client stuck longest makes room, never one that has logged in."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", 0.0)
    async with (
        clients(forwarder, 3, PASSWORD) as served,
        clients(forwarder, 195, *sent),
    ):
        assert database.most <= PLACES + 1  # the evicted client leaves while the next one arrives
        assert await answer(forwarder, START) == b"!"
        for reader, writer in served:
            writer.write(b"query")
            assert await reader.read(1) == b"!"


async def test_a_session_that_tls_hides_is_no_unfinished_login(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else clients beyond the limit would end each other's sessions, one after the other."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", 0.0)
    monkeypatch.setattr(address, "SESSIONS_SECONDS", 0.0)
    forwarder = Forwarder((HOST, 0), (HOST, database.port), lambda: 3, lambda: range(1 << 16))
    await forwarder.acquire()
    async with clients(forwarder, 3, *FLIGHTS) as served:
        assert (await answer(forwarder, START))[:1] == b"E"
        for reader, writer in served:
            writer.write(b"query")
            assert await reader.read(100) == b"!"
    await forwarder.release()
    await asyncio.sleep(0.05)


async def test_when_all_have_logged_in_the_next_is_refused_as_postgresql_does(
    forwarder: Forwarder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to cancel a statement still gets through; one warning covers all refusals."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", 0.0)
    with structlog.testing.capture_logs() as logs:
        async with clients(forwarder, PLACES, PASSWORD) as served:
            for _ in range(50):
                assert b"C53300\0" in await answer(forwarder, START)
            assert await answer(forwarder, struct.pack("!ii", 16, CANCEL) + b"12345678") == b"!"
            served[0][1].transport.abort()
            async with asyncio.timeout(LATEST):
                while await answer(forwarder, START) != b"!":  # noqa: ASYNC110 - it has to come
                    await asyncio.sleep(0.01)
    assert database.most <= PLACES + 1
    assert [log["event"] for log in logs] == ["all connections to the database are in use"]
    assert logs[0]["places"] == PLACES


async def test_a_flood_from_one_source_keeps_nobody_else_out(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However young its logins are, and they never evict those of another source."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", LATEST)
    async with (
        clients(forwarder, PLACES, TLS),
        clients(forwarder, 3, TLS, source=ELSEWHERE) as others,
    ):
        monkeypatch.setattr(address, "LOGIN_SECONDS", 20.0)
        for each in forwarder._clients:
            each.since -= 25.0 if each.source == ELSEWHERE else 0.0
        assert b"C53300\0" in await answer(forwarder, TLS)
        monkeypatch.setattr(address, "LOGIN_SECONDS", 0.0)
        async with clients(forwarder, 2 * PLACES, TLS):
            for reader, writer in others:
                writer.write(b"hello")
                assert await reader.read(1) == b"!"


async def test_silent_clients_of_one_source_close_no_other(forwarder: Forwarder) -> None:
    """A client that is slow to start is older than all of them."""
    async with (
        clients(forwarder, 1, source=ELSEWHERE) as others,
        clients(forwarder, 2 * MAX_SILENT_CLIENTS),
    ):
        reader, writer = others[0]
        writer.write(START)
        async with asyncio.timeout(LATEST):
            assert await reader.read(1) == b"!"


async def test_sources_share_what_there_is(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second source gets half, and evicts no login that has just begun beyond that."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", LATEST)
    async with (
        clients(forwarder, PLACES, TLS),
        clients(forwarder, PLACES // 2, TLS, source=ELSEWHERE),
    ):
        reader, writer = await asyncio.open_connection(
            HOST, forwarder.port, local_addr=(ELSEWHERE, 0)
        )
        writer.write(TLS)
        async with asyncio.timeout(LATEST):
            assert b"C53300\0" in await reader.read(100)
        writer.transport.abort()


async def test_a_login_that_postgresql_would_have_ended_is_over(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS hides whether a client has logged in; then only time shows it."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", 0.0)
    async with clients(forwarder, PLACES, *FLIGHTS) as served:
        monkeypatch.setattr(address, "LOGIN_LIMIT_SECONDS", 0.0)
        assert b"C53300\0" in await answer(forwarder, START)
        for reader, writer in served:
            writer.write(b"query")
            assert await reader.read(1) == b"!"


async def test_a_log_in_that_has_just_begun_is_left_alone(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that arrive at once, as after a failover, do not evict each other."""
    monkeypatch.setattr(address, "LOGIN_SECONDS", LATEST)
    async with clients(forwarder, PLACES, TLS) as young:
        assert b"C53300\0" in await answer(forwarder, TLS)
        for reader, writer in young:
            writer.write(b"hello")
            assert await reader.read(1) == b"!"
