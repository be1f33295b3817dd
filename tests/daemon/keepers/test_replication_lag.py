"""A standby's lag: in bytes as PostgreSQL reports it, in seconds even when replay stands still."""

from typing import Any

import pytest
from psycopg import OperationalError

from openvcha.cluster.observing.observation import Lag
from openvcha.daemon.keepers.replication_lag import ReplicationLag, StandbyPosition, WalHistory


def test_a_standby_that_has_everything_is_not_behind() -> None:
    """However long nothing was written."""
    history = WalHistory()
    history.note(0.0, 100)
    assert history.lag(500.0, 100, StandbyPosition("b", 100, 0.0)) == Lag("b", 0, 0.0)


def test_a_standby_that_stands_still_falls_behind_by_the_clock() -> None:
    """Since the primary first passed the standby's position, not since its last report."""
    history = WalHistory()
    for second, written in enumerate((100, 100, 200, 300, 300)):
        history.note(float(second), written)
    assert history.lag(10.0, 300, StandbyPosition("b", 100, 0.0)) == Lag("b", 200, 8.0)
    assert history.lag(10.0, 300, StandbyPosition("b", 200, 0.0)) == Lag("b", 100, 7.0)


def test_postgresqls_own_measure_counts_when_it_is_more() -> None:
    """Right after a start there is no history."""
    history = WalHistory()
    history.note(0.0, 300)
    assert history.lag(1.0, 300, StandbyPosition("b", 100, 40.0)) == Lag("b", 200, 40.0)


def test_positions_of_another_timeline_are_forgotten() -> None:
    """After a takeover the log may be shorter."""
    history = WalHistory()
    history.note(0.0, 900)
    history.note(5.0, 100)
    assert history.lag(7.0, 100, StandbyPosition("b", 50, 0.0)) == Lag("b", 50, 2.0)


class Connection:
    """Simulated: returns rows, or fails once."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows
        self.breaks = False
        self.closed = False

    async def execute(self, _: str) -> "Connection":
        if self.breaks:
            raise OperationalError("the server is gone")
        return self

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(100, None, None, 0.0)], ()),
        ([(100, "b", 90, 0.5)], (Lag("b", 10, 0.5),)),
    ],
)
async def test_it_asks_over_one_connection_and_opens_another_when_it_breaks(
    rows: list[tuple[Any, ...]], expected: tuple[Lag, ...]
) -> None:
    """What cannot be queried is unknown, not zero."""
    opened: list[Connection] = []

    async def connect() -> Any:
        opened.append(Connection(rows))
        return opened[-1]

    lags = ReplicationLag(connect)
    assert await lags() == expected
    assert await lags() == expected
    assert len(opened) == 1
    opened[0].breaks = True
    assert await lags() == ()
    assert opened[0].closed
    assert await lags() == expected
    assert len(opened) == 2
    await lags.aclose()
    assert opened[1].closed
