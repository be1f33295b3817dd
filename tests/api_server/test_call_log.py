"""What strangers ask for fills neither the log nor the time of the loop."""

from typing import Any

from openvcha.api_server.call_log import MAX_STRANGERS_PER_SECOND, STRANGER_BURST, CallLog


class Clock:
    """A clock that is set."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def refuse(log: CallLog, times: int = 1, *, stranger: bool = True) -> None:
    for _ in range(times):
        log.record(stranger=stranger, changes=False, result="UNAUTHENTICATED", user=None)


def test_refused_strangers_get_a_bounded_number_of_lines(logged: list[Any]) -> None:
    """The rest is counted, and told with the next line."""
    clock = Clock()
    log = CallLog(clock)
    refuse(log, STRANGER_BURST + 1000)
    assert STRANGER_BURST <= len(logged) <= STRANGER_BURST + 1
    before = len(logged)
    clock.seconds += 1.0
    refuse(log, 1000)
    lines = logged[before:]
    assert len(lines) == MAX_STRANGERS_PER_SECOND
    assert lines[0]["left_out"] == STRANGER_BURST + 1000 - before
    assert all("left_out" not in line for line in lines[1:])


def test_nobody_elses_line_is_left_out(logged: list[Any]) -> None:
    """Neither a user's refusal nor a change, however many strangers ask."""
    log = CallLog(Clock())
    refuse(log, STRANGER_BURST * 2)
    before = len(logged)
    refuse(log, 50, stranger=False)
    for _ in range(50):
        log.record(stranger=True, changes=True, result="OK", user="anonymous")
    assert len(logged) == before + 100
