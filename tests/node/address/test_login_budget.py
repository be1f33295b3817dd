"""Connections of sources that have not logged in: a budget, and whom it does not concern."""

import pytest

from openvcha.node.address.login_budget import (
    BURST,
    KNOWN_SECONDS,
    MAX_SOURCES,
    MAX_WAIT_SECONDS,
    PER_SECOND,
    LoginBudget,
)

STRANGER, OTHER = "203.0.113.9", "198.51.100.7"


class Clock:
    """SIMULATED: the time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_pool_connects_at_once_and_the_others_wait_in_turn() -> None:
    """Until one would wait too long; it does not delay those after it."""
    clock = Clock()
    budget = LoginBudget(clock)
    assert [budget.take(STRANGER) for _ in range(BURST)] == [0.0] * BURST
    assert budget.take(STRANGER) == pytest.approx(1 / PER_SECOND)
    waits = [budget.take(STRANGER) for _ in range(2 * BURST)]
    assert waits.count(None) == pytest.approx(2 * BURST - MAX_WAIT_SECONDS * PER_SECOND, abs=2)
    clock.now += MAX_WAIT_SECONDS
    assert budget.take(STRANGER) == pytest.approx(0, abs=2 / PER_SECOND)


def test_a_minute_of_attempts_costs_a_burst_and_its_rate() -> None:
    """However many are made."""
    clock = Clock()
    budget = LoginBudget(clock)
    passed = 0
    for _ in range(60 * 100):
        passed += budget.take(STRANGER) is not None
        clock.now += 0.01
    assert passed <= BURST + (60 + MAX_WAIT_SECONDS) * PER_SECOND + 1


def test_one_source_takes_nothing_from_another() -> None:
    """The budget is each source's own."""
    budget = LoginBudget(Clock())
    while budget.take(STRANGER) == 0.0:
        pass
    assert budget.take(OTHER) == 0.0


def test_who_has_logged_in_is_not_limited_for_an_hour() -> None:
    """Applications that connect for each request are no attack."""
    clock = Clock()
    budget = LoginBudget(clock)
    budget.remember(OTHER)
    assert {budget.take(OTHER) for _ in range(10 * BURST)} == {0.0}
    clock.now += KNOWN_SECONDS
    assert not budget.knows(OTHER)
    assert {budget.take(OTHER) for _ in range(10 * BURST)} != {0.0}


def test_the_tables_are_bounded() -> None:
    """Whatever the number of addresses; the oldest are forgotten."""
    budget = LoginBudget(Clock())
    for number in range(MAX_SOURCES + 100):
        budget.take(f"a{number}")
        budget.remember(f"b{number}")
    assert len(budget._levels) == len(budget._known) == MAX_SOURCES
    assert not budget.knows("b0")
