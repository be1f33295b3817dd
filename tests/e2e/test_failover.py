"""The active loses its power: the passive takes over, with every row and every session."""

import time

import httpx2
import pytest
from tests.e2e.conftest import RunningLab
from tests.e2e.writer import Writer

pytestmark = pytest.mark.engines
TAKE_OVER_SECONDS = 90.0


def wait_for_successor(running: RunningLab, old: str) -> None:
    """Wait until another node serves the API, to the session that was there before."""
    deadline = time.monotonic() + TAKE_OVER_SECONDS
    while True:
        try:
            if running.name_of("ACTIVE") != old:
                return
        except (httpx2.TransportError, AssertionError, StopIteration):
            # Nobody there yet, 503, or nobody leads.
            pass
        assert time.monotonic() < deadline, "nobody took over"
        time.sleep(0.2)


def test_sessions_and_rows_live_through_a_failover(running: RunningLab, writer: Writer) -> None:
    """The same token works at the successor, the old active becomes the passive by itself."""
    old = running.name_of("ACTIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    running.vcha("lab", "kill", "active")
    wait_for_successor(running, old)
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    assert running.admin.cluster()["health_state"] == "DEGRADED"
    running.vcha("lab", "up")
    running.until(running.healthy)
    assert running.name_of("PASSIVE") == old
    assert writer.missing() == set()
