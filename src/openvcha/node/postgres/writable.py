"""Whether a node's own PostgreSQL accepts writes, queried over an open connection.

A connection to a standby survives its promotion. Opening a new one takes longer than hundreds of
queries, and clients would wait for that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection, Error

from openvcha.node.engines import EngineMissing
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 0.01
KEEP_SECONDS = 5.0
"""How often a connection is tried that nobody needs now; one that is needed is opened at once."""
ASK_SECONDS = 3.0

_log = structlog.get_logger(__name__)


class WritableProbe:
    """A probe of one PostgreSQL. ``connect`` returns a connection in autocommit."""

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection[Any]]]) -> None:
        self._connect = connect
        self._connection: AsyncConnection[Any] | None = None
        self._one_by_one = asyncio.Lock()

    async def keep_ready(self) -> None:
        """Keep a working connection until canceled; PostgreSQL may come and go."""
        try:
            await repeat(
                self._keep, KEEP_SECONDS, transient=(PostgresUnreachable,), failed=_unasked
            )
        finally:
            await self._drop()

    async def _keep(self) -> None:
        await self()

    async def wait(self) -> None:
        """Wait until PostgreSQL accepts writes. Raises PostgresUnreachable."""
        while not await self():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_SECONDS)

    async def __call__(self) -> bool:
        """Return whether PostgreSQL accepts writes. Raises PostgresUnreachable."""
        async with self._one_by_one:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await self._ask()
            except (Error, OSError, EngineMissing) as error:
                await self._drop()
                raise PostgresUnreachable(f"cannot query PostgreSQL: {error}") from error

    async def _ask(self) -> bool:
        if self._connection is None:
            self._connection = await self._connect()
        answer = await self._connection.execute("select not pg_is_in_recovery()")
        row = await answer.fetchone()
        return row is not None and bool(row[0])

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _unasked(reason: str) -> None:
    _log.debug("cannot query PostgreSQL", reason=reason)
