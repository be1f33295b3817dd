"""Whether PostgreSQL takes writes: queried over a connection kept open for that moment."""

import asyncio
from typing import Any

import pytest
from psycopg import OperationalError

from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.node.postgres.writable import KEEP_SECONDS, POLL_SECONDS, WritableProbe

pytestmark = pytest.mark.looptime


class Server:
    """Simulated: a PostgreSQL that is up or down, primary or standby."""

    def __init__(self) -> None:
        self.up = True
        self.primary = False
        self.connected: list[Connection] = []

    async def connect(self) -> Any:
        if not self.up:
            raise OperationalError("refused")
        await asyncio.sleep(0.05)
        self.connected.append(Connection(self))
        return self.connected[-1]

    def restart(self) -> None:
        for connection in self.connected:
            connection.broken = True


class Connection:
    """Simulated: lost when the server was restarted."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.broken = self.closed = False

    async def execute(self, _query: str) -> "Connection":
        if self.broken:
            raise OperationalError("the connection is lost")
        return self

    async def fetchone(self) -> tuple[bool]:
        return (self.server.primary,)

    async def close(self) -> None:
        self.closed = True


async def kept(writable: WritableProbe, seconds: float) -> asyncio.Task[None]:
    keeping = asyncio.create_task(writable.keep_ready())
    await asyncio.sleep(seconds)
    return keeping


async def end(keeping: asyncio.Task[None]) -> None:
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_nobody_waits_for_a_connection() -> None:
    """It was opened before the promotion, and shows it at the next query."""
    server = Server()
    writable = WritableProbe(server.connect)
    keeping = await kept(writable, 5)
    waiting = asyncio.create_task(writable.wait())
    await asyncio.sleep(1)
    assert not waiting.done()
    before = asyncio.get_running_loop().time()
    server.primary = True
    await waiting
    assert asyncio.get_running_loop().time() - before <= POLL_SECONDS
    assert len(server.connected) == 1
    await end(keeping)
    assert server.connected[0].closed


async def test_a_server_that_was_started_anew_is_connected_to_anew() -> None:
    """A standby is restarted now and then."""
    server = Server()
    writable = WritableProbe(server.connect)
    keeping = await kept(writable, 5)
    server.restart()
    await asyncio.sleep(2 * KEEP_SECONDS + 0.1)
    assert [connection.broken for connection in server.connected] == [True, False]
    assert server.connected[0].closed
    await end(keeping)


async def test_a_server_that_is_away_is_told_and_tried_again() -> None:
    """A server that does not answer counts as not writable."""
    server = Server()
    server.up, server.primary = False, True
    writable = WritableProbe(server.connect)
    keeping = await kept(writable, 5)
    with pytest.raises(PostgresUnreachable):
        await writable.wait()
    server.up = True
    await writable.wait()
    await end(keeping)
