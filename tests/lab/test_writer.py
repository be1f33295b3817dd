"""Which rows count as acknowledged."""

import asyncio
from typing import Any, Self

import psycopg
import pytest

from openvcha.lab.writer import Writer


class Connection:
    """A simulated connection: each statement has the next outcome."""

    def __init__(self, writer: Writer, outcomes: list[str], stop: asyncio.Event) -> None:
        self._writer = writer
        self._outcomes = outcomes
        self._stop = stop

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def execute(self, *_: object) -> None:
        outcome = self._outcomes.pop(0)
        if not self._outcomes:
            self._stop.set()
        if outcome == "warned":
            self._writer._notice(Diagnostic("WARNING"))  # type: ignore[arg-type]  # as libpq's
        elif outcome == "noticed":
            self._writer._notice(Diagnostic("NOTICE"))  # type: ignore[arg-type]  # as libpq's
        elif outcome == "lost":
            raise psycopg.OperationalError("the connection is lost")


class Diagnostic:
    """A message that PostgreSQL sends beside its answer."""

    def __init__(self, severity: str) -> None:
        self.severity_nonlocalized = severity


async def test_only_a_clean_answer_is_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a warning (the standby has not confirmed) or a lost connection it is unknown."""
    stop = asyncio.Event()
    writer = Writer({"host": "nowhere"}, "rows")
    outcomes = ["fine", "warned", "fine", "lost", "noticed"]
    connection = Connection(writer, outcomes, stop)

    async def connect() -> Any:
        return connection

    monkeypatch.setattr(writer, "_connect", connect)
    await asyncio.wait_for(writer.run(stop), 10)
    assert writer.ledger.acknowledged == {0, 2, 4}
    assert writer.ledger.unknown == {1, 3}
    assert writer.ledger.last_error == "the connection is lost"


async def test_the_longest_pause_includes_the_time_without_a_connection() -> None:
    """It is the time that a client has to wait, for any reason."""
    times = iter((0.0, 0.1, 2.1, 2.2))
    writer = Writer({"host": "nowhere"}, "rows", clock=lambda: next(times))
    for number in range(3):
        writer._answered(number)
    assert writer.ledger.longest_pause == pytest.approx(2.0)
