"""A client that writes continuously, and records the outcome of every row."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from openvcha.lab.access import connection_string

ROW_INTERVAL_SECONDS = 0.01
CONNECT_SECONDS = 2
STATEMENT_SECONDS = 30.0
FILLER_ROW_BYTES = 1024
RETRY_SECONDS = 0.1


@dataclass
class RowLedger:
    """The outcome of each row, by number. A pause is the time between two acknowledgements.

    A row is acknowledged if its commit succeeded without a warning. If the commit was canceled,
    succeeded with a warning or got no response, the row is unknown: it may exist or not.
    """

    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    longest_pause: float = 0.0
    last_error: str = ""


class Writer:
    """A client that inserts rows one by one into its own table, despite interruptions."""

    def __init__(
        self,
        parameters: Mapping[str, str],
        table: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._target = connection_string(parameters)
        self._table = sql.Identifier(table)
        self._clock = clock or asyncio.get_running_loop().time
        self._next = 0
        self._heard = self._clock()
        self._warned = False
        self.ledger = RowLedger()

    async def prepare(self, filling: int = 0) -> None:
        """Create the table, which must not exist, and fill it. Raises psycopg.Error.

        ``filling`` is in bytes, written as rows of the same table with negative numbers.
        """
        async with await self._connect() as connection:
            query = sql.SQL("create table {} (number bigint primary key, filling text)")
            await connection.execute(query.format(self._table))
            query = sql.SQL(
                "insert into {} select -n, repeat(md5(n::text), %s) from generate_series(1, %s) n"
            )
            rows = filling // FILLER_ROW_BYTES
            await connection.execute(query.format(self._table), (FILLER_ROW_BYTES // 32, rows))

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop`` is set; finish the current row."""
        self._heard = self._clock()
        while not stop.is_set():
            try:
                async with await self._connect() as connection:
                    await self._write(connection, stop)
            except (psycopg.Error, OSError, TimeoutError) as error:
                self.ledger.last_error = str(error).strip() or type(error).__name__
                await asyncio.sleep(RETRY_SECONDS)
        self._paused(self._clock())

    async def missing(self) -> set[int]:
        """Return the acknowledged rows that are missing. Raises psycopg.Error."""
        async with await self._connect() as connection:
            query = sql.SQL("select number from {} where number >= 0").format(self._table)
            rows = await (await connection.execute(query)).fetchall()
        return self.ledger.acknowledged - {number for (number,) in rows}

    async def clean_up(self) -> None:
        """Drop the table. Raises psycopg.Error."""
        async with await self._connect() as connection:
            await connection.execute(sql.SQL("drop table if exists {}").format(self._table))

    async def _write(self, connection: psycopg.AsyncConnection[Any], stop: asyncio.Event) -> None:
        query = sql.SQL("insert into {} values (%s)").format(self._table)
        while not stop.is_set():
            number, self._next = self._next, self._next + 1
            self._warned = False
            self.ledger.unknown.add(number)
            async with asyncio.timeout(STATEMENT_SECONDS):
                await connection.execute(query, (number,))
            self._answered(number)
            await asyncio.sleep(ROW_INTERVAL_SECONDS)

    def _answered(self, number: int) -> None:
        self._paused(self._clock())
        if not self._warned:
            self.ledger.unknown.discard(number)
            self.ledger.acknowledged.add(number)

    def _paused(self, now: float) -> None:
        self.ledger.longest_pause = max(self.ledger.longest_pause, now - self._heard)
        self._heard = now

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(
            self._target, autocommit=True, connect_timeout=CONNECT_SECONDS
        )
        connection.add_notice_handler(self._notice)
        return connection

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """Record a warning: PostgreSQL sends one for a commit that is not on the standby."""
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warned = True
