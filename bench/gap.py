"""The gap that a client sees: a writer of one row every 10 ms, and the outcome of its rows."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import psycopg

PACE_SECONDS = 0.01
CONNECT_SECONDS = 2


class GapWriter:
    """A writer that inserts rows one by one with libpq's parameters, despite interruptions.

    A row is acknowledged when its commit succeeded without a warning.
    """

    def __init__(self, parameters: Mapping[str, str], table: str) -> None:
        self._dsn = psycopg.conninfo.make_conninfo(
            **{**parameters, "connect_timeout": str(CONNECT_SECONDS)}
        )
        self._table = table
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=table, daemon=True)
        self._warned = False
        self._next = 0
        self._heard = 0.0
        self._longest = 0.0
        self.acknowledged: set[int] = set()

    def __enter__(self) -> Self:
        """Create the table and start writing."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(f"create table {self._table} (id bigint primary key)")
        self._heard = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop writing."""
        self._stop.set()
        self._thread.join()

    def begin(self) -> None:
        """Discard the gaps so far."""
        self._longest = 0.0

    def gap(self) -> float:
        """Return the longest time between two acknowledgements since ``begin``, in seconds."""
        return max(self._longest, time.monotonic() - self._heard)

    def missing(self) -> set[int]:
        """Return the acknowledged rows that are missing."""
        acknowledged = set(self.acknowledged)
        with psycopg.connect(self._dsn) as connection:
            rows = connection.execute(f"select id from {self._table}")  # noqa: S608 - our own name
            return acknowledged - {number for (number,) in rows}

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    connection.add_notice_handler(self._notice)
                    self._write(connection)
            except psycopg.Error:
                self._stop.wait(PACE_SECONDS)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        query = f"insert into {self._table} values (%s)"  # noqa: S608 - our own name
        while not self._stop.wait(PACE_SECONDS):
            number, self._next = self._next, self._next + 1
            self._warned = False
            connection.execute(query, (number,))
            now = time.monotonic()
            self._longest = max(self._longest, now - self._heard)
            self._heard = now
            if not self._warned:
                self.acknowledged.add(number)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self._warned = self._warned or diagnostic.severity_nonlocalized == "WARNING"
