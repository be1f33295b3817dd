"""The active's postmaster is killed under load: the node's database comes back by itself.

Regression: a backend waiting for the standby went on reading its standard input after its
postmaster died, and PostgreSQL does not start beside it ("pre-existing shared memory block").
"""

import json
import logging
import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.lab.mode import MODE, change, enabled
from tests.support.lab.nodes import answers_healthy
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.writer import Writer

pytestmark = [pytest.mark.engines, pytest.mark.soak]
SHARED_LAB = "failovers"
#: How often it is killed in each mode. A few show that it works; 20 show how long it takes.
KILLS = int(os.environ.get("OPENVCHA_KILLS", "2"))
SESSIONS = 8
BACK_SECONDS = 60.0
HEAL_SECONDS = 300.0

_log = logging.getLogger(__name__)


@pytest.fixture
def writers(running: RunningLab) -> Iterator[Writer]:
    passwords = json.loads(running.lab.passwords_file.read_text())
    address = running.lab.state().public_address
    with Writer(address, passwords["app"], running.lab.ca, sessions=SESSIONS) as writers:
        yield writers


def postmaster(running: RunningLab, name: str) -> int:
    pid_file = running.layout(name).pgdata / "postmaster.pid"
    return int(pid_file.read_text().splitlines()[0])


def copies(running: RunningLab) -> int:
    """Return how often a data node has started to copy all data."""
    logs = [running.layout(vm.name).logs / "supervisor.jsonl" for vm in running.vms()]
    return sum(log.read_text().count('"base backup started"') for log in logs if log.exists())


def until_all_write(writers: Writer, since: float, running: RunningLab) -> float:
    """Wait until each has a row acknowledged in a new session; return how long that took."""
    deadline = since + BACK_SECONDS
    while silent := [n for n, (opened, _) in enumerate(writers.firsts) if opened < since]:
        assert time.monotonic() < deadline, f"sessions {silent}: {left_over(running)}"
        time.sleep(0.01)
    return max(first for _, first in writers.firsts) - since


def left_over(running: RunningLab) -> list[str]:
    """Return the lab's PostgreSQL processes, with where each waits and its standard input."""
    data = {str(running.layout(vm.name).pgdata) for vm in running.vms()}
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if str((proc / "cwd").readlink()) in data:
                title = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                wchan = (proc / "wchan").read_text()
                found.append(f"{proc.name} {title} {wchan} {(proc / 'fd/0').readlink()}")
        except OSError:
            continue
    return found


def in_mode(running: RunningLab, mode: str) -> None:
    """Begin in the mode, HEALTHY, whatever state the last test left."""
    running.until(lambda: answers_healthy(running), HEAL_SECONDS)
    if running.admin.call("GET", MODE) != {"mode": mode}:
        enabled(running)
        if mode != "ENABLED":
            change(running, mode)


@pytest.mark.parametrize("mode", ["MAINTENANCE", "DISABLED", "ENABLED"])
def test_a_killed_postmaster_comes_back(running: RunningLab, writers: Writer, mode: str) -> None:
    """All sessions soon write again, no acknowledged row is lost, and no data are copied again."""
    in_mode(running, mode)
    before, took = copies(running), []
    for _ in range(KILLS):
        running.until(lambda: answers_healthy(running), HEAL_SECONDS)
        pid = postmaster(running, running.active_name(HEAL_SECONDS))
        assert str(Path(f"/proc/{pid}/fd/0").readlink()) == os.devnull
        os.kill(pid, signal.SIGKILL)
        took.append(until_all_write(writers, time.monotonic(), running))
    running.until(lambda: answers_healthy(running), HEAL_SECONDS)
    _log.info("%s: %s s, median %.1f", mode, [round(s, 1) for s in took], statistics.median(took))
    assert copies(running) == before
    assert writers.missing() == set()
