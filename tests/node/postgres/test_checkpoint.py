"""A checkpoint on a server that stops responding: the request ends, whatever the server does."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.serving import serving

from openvcha.node.layout import Layout
from openvcha.node.postgres import superuser as module
from openvcha.node.postgres.superuser import PostgresUnreachable, Superuser

READY = b"R" + struct.pack("!ii", 8, 0) + b"Z" + struct.pack("!i", 5) + b"I"
ENDED = b"C" + struct.pack("!i", 15) + b"CHECKPOINT\0" + b"Z" + struct.pack("!i", 5) + b"I"
PROBES = 20
"""More than fit into the time for which a server may be silent here."""
SURE_SECONDS = 60.0


class FakeServer:
    """Speaks enough of PostgreSQL's protocol for a login and one statement."""

    def __init__(self, logins: int | None = None) -> None:
        self.until = logins
        """A statement ends after as many logins; None: nothing is answered once it arrives."""
        self.frozen = False
        self.logins = 0
        self.enough = asyncio.Event()
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._message(reader)
        if self.frozen:
            await reader.read()
        self.logins += 1
        if self.logins == self.until:
            self.enough.set()
        writer.write(READY)
        while await reader.readexactly(1) == b"Q":
            await self._message(reader)
            self.frozen = self.until is None
            if self.frozen:
                await reader.read()
            else:
                await self.enough.wait()
            writer.write(ENDED)

    async def _message(self, reader: asyncio.StreamReader) -> bytes:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        return await reader.readexactly(size - 4)


@asynccontextmanager
async def reaching(
    server: FakeServer, patch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Superuser]:
    """Serve at a free port, with short probes; yield a superuser who reaches it."""
    async with serving(server.talk) as server.port:
        place = f"host=127.0.0.1 port={server.port} user=u connect_timeout=2"
        place += " sslmode=disable gssencmode=disable"
        patch.setattr(module, "superuser_conninfo", lambda *_: place)
        patch.setattr(module, "load_secrets", lambda _: None)
        patch.setattr(module, "PROBE_SECONDS", 0.1)
        patch.setattr(module, "SILENT_SECONDS", 1.0)
        found = Superuser(Layout(tmp_path), server.port)
        patch.setattr(found, "_postgres", SimpleNamespace())
        yield found


async def test_a_server_that_freezes_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its kernel still accepts connections and acknowledges what is sent."""
    server = FakeServer()
    async with reaching(server, monkeypatch, tmp_path) as superuser:
        async with asyncio.timeout(SURE_SECONDS):
            with pytest.raises(PostgresUnreachable, match="no login for 1 s"):
                await superuser.checkpoint("127.0.0.1")
    assert server.frozen


async def test_a_server_that_responds_may_take_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A large checkpoint is no reason to give up."""
    server = FakeServer(PROBES)
    async with reaching(server, monkeypatch, tmp_path) as superuser:
        await superuser.checkpoint("127.0.0.1")
    assert server.logins >= PROBES


async def test_a_canceled_checkpoint_ends_at_once_on_a_frozen_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It does not wait for the server to confirm that the statement was canceled."""
    server = FakeServer()
    async with reaching(server, monkeypatch, tmp_path) as superuser:
        monkeypatch.setattr(module, "SILENT_SECONDS", SURE_SECONDS)
        running = asyncio.create_task(superuser.checkpoint("127.0.0.1"))
        async with asyncio.timeout(SURE_SECONDS):
            while not server.frozen:  # noqa: ASYNC110 - it is another connection's state
                await asyncio.sleep(0.01)
        asked = time.monotonic()
        running.cancel()
        await asyncio.wait([running], timeout=SURE_SECONDS)
        assert running.cancelled()
        assert time.monotonic() - asked < 4
