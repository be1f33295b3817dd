"""A writer that knows which of its rows were acknowledged."""

import itertools
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
from tests.support.waiting import until

from openvcha.node.postgres.tls import trusting

PAUSE_SECONDS = 0.02
CONNECT_SECONDS = 3
SESSION_SECONDS = 240.0
"""The address may be about to move, on a busy machine."""
END_SECONDS = 120.0


class Writer:
    """Inserts rows through the public address, one at a time, in one session or in several.

    A row counts as acknowledged only when its commit was answered with success and without a
    warning: a commit whose wait for the standby was canceled answers with WARNING 01000.
    """

    def __init__(
        self, address: str, password: str, ca: Path, port: int = 5432, sessions: int = 1
    ) -> None:
        self._dsn = psycopg.conninfo.make_conninfo(
            host=address,
            port=port,
            dbname="app",
            user="app",
            password=password,
            **trusting(ca),
            connect_timeout=CONNECT_SECONDS,
        )
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,), name=f"writer {number}")
            for number in range(sessions)
        ]
        self._rows = itertools.count()
        self.acknowledged: set[int] = set()
        self.firsts = [(0.0, 0.0)] * sessions
        """When each one's last session was opened, and had its first row acknowledged (monotonic).
        """
        self.unknown: set[int] = set()
        self.longest_gap = 0.0

    def __enter__(self) -> Self:
        self._execute("DROP TABLE IF EXISTS written")
        self._execute("CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY)")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def connect(self, address: str) -> "psycopg.Connection[object]":
        """Open a session as the same user; the caller closes it."""
        return psycopg.connect(self._dsn, host=address, autocommit=True)

    def stop(self) -> None:
        """End all sessions; from then on nothing is written."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=END_SECONDS)
        left = [thread.name for thread in self._threads if thread.is_alive()]
        assert not left, f"they still write: {left}"

    def missing(self) -> set[int]:
        """Stop, read the rows back, and return the acknowledged ones that are missing."""
        self.stop()
        assert len(self.acknowledged) > 20, "too little was written to prove anything"
        acknowledged = set(self.acknowledged)  # before the rows are read
        return acknowledged - self.rows()

    def rows(self) -> set[int]:
        """Return the rows that the database has; wait for one that answers."""
        return {row[0] for row in self._execute("SELECT id FROM written")}

    def _execute(self, statement: LiteralString) -> list[Any]:
        """Execute a statement that may be repeated, in a session of its own."""

        def execute() -> tuple[list[Any]]:
            with psycopg.connect(self._dsn) as connection:
                found = connection.execute(statement)
                return (list(found) if found.description else [],)

        (rows,) = until(execute, SESSION_SECONDS, absent=(psycopg.OperationalError,))
        return list(rows)

    def _write(self, number: int) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                opening = time.monotonic()
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    warned = threading.Event()
                    connection.add_notice_handler(lambda _: warned.set())  # noqa: B023 - ours alone
                    while not self._stop.is_set():
                        acknowledged = self._insert(connection, warned)
                        now = time.monotonic()
                        if acknowledged and self.firsts[number][0] != opening:
                            self.firsts[number] = (opening, now)
                        self.longest_gap = max(self.longest_gap, now - last)
                        last = now
                        self._stop.wait(PAUSE_SECONDS)
            except psycopg.Error:
                self._stop.wait(PAUSE_SECONDS)

    def _insert(self, connection: "psycopg.Connection[object]", warned: threading.Event) -> bool:
        """Insert the next row; return whether it was acknowledged. Raise psycopg.Error."""
        row = next(self._rows)
        warned.clear()
        try:
            connection.execute("INSERT INTO written VALUES (%s)", (row,))
        except psycopg.Error:
            self.unknown.add(row)
            raise
        (self.unknown if warned.is_set() else self.acknowledged).add(row)
        return row in self.acknowledged
