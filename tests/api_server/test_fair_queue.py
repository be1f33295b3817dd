"""A queue that is fair by source, and a rate limit."""

from dataclasses import dataclass

import pytest

from openvcha.api_server import fair_queue
from openvcha.api_server.fair_queue import FairQueue
from openvcha.api_server.token_bucket import TokenBucket


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_so_much_in_a_second() -> None:
    """Idle time restores the burst, and no more than that."""
    clock = Clock()
    pace = TokenBucket(rate=10, burst=5, clock=clock)
    for _ in range(2):
        for _ in range(5):
            assert pace.delay() == 0
            pace.take(1)
        pace.take(1)
        assert pace.delay() == pytest.approx(0.1)
        clock.now += 3600


def test_who_was_served_the_longest_ago_is_next() -> None:
    """Within a source, first come, first served."""
    rows: FairQueue[str] = FairQueue()
    for one in ("a1", "a2", "a3", "b1", "c1", "b2"):
        rows.add(one[0], one)
    assert (len(rows), rows.count_of("a"), rows.count_of("z")) == (6, 3, 0)
    assert (rows.ahead_of("a"), rows.ahead_of("b"), rows.ahead_of("z")) == (6, 6, 3)
    rows.discard("c", "c1")
    rows.discard("c", "c1")
    assert [rows.next() for _ in range(6)] == ["a1", "b1", "a2", "b2", "a3", None]
    rows.add("a", "a4")
    rows.add("z", "z1")
    assert rows.ahead_of("y") == 1
    assert [rows.next(), rows.next()] == ["z1", "a4"]


def test_sources_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is bounded; a forgotten source counts as new."""
    monkeypatch.setattr(fair_queue, "MAX_REMEMBERED_SOURCES", 2)
    rows: FairQueue[int] = FairQueue()
    for number in range(5):
        rows.add(str(number), number)
    assert [rows.next() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert list(rows._last_turns) == ["3", "4"]
