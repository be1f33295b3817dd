"""The writer of the tests with real engines, on a SIMULATED database."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from tests.support.lab import writer as writing
from tests.support.lab.writer import Writer
from tests.support.waiting import until

ENOUGH = 21
"""Rows that prove something."""


class Database:
    """SIMULATED: the rows, which sessions are refused, and what happens as the rows are read."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.refused = 0
        self.reading: Callable[[], None] = lambda: None
        self.hangs_after: int | None = None
        self.hangs, self.goes_on = threading.Event(), threading.Event()

    def connect(self, *_: Any, **__: Any) -> Self:
        if self.refused:
            self.refused -= 1
            raise psycopg.OperationalError("the address is about to move")
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def add_notice_handler(self, _: object) -> None:
        return

    def execute(self, statement: str, values: tuple[int] | None = None) -> "Found":
        if values:
            if len(self.rows) == self.hangs_after:
                self.hangs.set()
                self.goes_on.wait()
            self.rows += values
        if not statement.startswith("SELECT"):
            return Found()
        found = Found((row,) for row in self.rows)
        found.description = "id"
        self.reading()
        return found


class Found(list[tuple[int]]):
    """The rows that a statement returns; ``description`` is None for one that returns none."""

    description: str | None = None


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    made = Database()
    monkeypatch.setattr(psycopg, "connect", made.connect)
    monkeypatch.setattr(writing, "PAUSE_SECONDS", 0.0)
    yield made
    made.goes_on.set()


@pytest.fixture
def writer(database: Database, tmp_path: Path) -> Writer:
    del database
    return Writer("127.0.0.1", "password", tmp_path / "ca.crt")


def wrote_enough(writer: Writer) -> None:
    until(lambda: len(writer.acknowledged) >= ENOUGH, 60, pause=0.001)


def test_one_refused_session_costs_no_test(database: Database, writer: Writer) -> None:
    """The address may be about to move, or the machine busy: both begin and end ask again."""
    database.refused = 2
    with writer:
        wrote_enough(writer)
        writer.stop()
        database.refused = 2
        assert writer.missing() == set()


def test_a_database_without_rows_is_an_answer(writer: Writer) -> None:
    """Nothing is waited for."""
    assert writer.rows() == set()


def test_a_row_that_is_acknowledged_while_the_rows_are_read_is_not_missing(
    database: Database, writer: Writer
) -> None:
    """It was not yet there when they were read."""
    with writer:
        wrote_enough(writer)
        database.reading = lambda: writer.acknowledged.add(-1)
        assert writer.missing() == set()
    database.reading = lambda: None
    assert writer.missing() == {-1}


def test_a_session_that_does_not_end_is_told(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes later would be nobody's; the test that left it must fail, and no other."""
    monkeypatch.setattr(writing, "END_SECONDS", 0.01)
    database.hangs_after = ENOUGH
    writer.__enter__()
    assert database.hangs.wait(60)
    with pytest.raises(AssertionError, match="writer 0"):
        writer.stop()
    database.goes_on.set()
    writer.stop()
