"""A program that hangs is distinguished from one that is starved of CPU, and is restarted."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from openvcha.node.layout import Layout
from openvcha.node.process.heartbeat import (
    BEAT,
    CHECKS,
    HangDetector,
    ThreadState,
    beat_forever,
    read_thread_state,
)
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.node.process.managed_process import Part, PartSpec
from openvcha.node.supervisor.plan import api_parts, service_part

LINE = BEAT + b"\n"
BEATS = f"import os, signal, time; os.write(1, {LINE!r}); "
STOPPED = ThreadState("T", 7)
WAITING = ThreadState("S", 7)


def looks(pulse: HangDetector, sights: Sequence[ThreadState | None]) -> list[bool]:
    return [pulse.hangs(sight) for sight in sights]


def begun() -> HangDetector:
    pulse = HangDetector()
    pulse.beat()
    pulse.hangs(WAITING)
    return pulse


@pytest.mark.parametrize("sight", [STOPPED, WAITING, ThreadState("D", 7)], ids=lambda s: s.state)
def test_what_is_silent_and_still_hangs(sight: ThreadState) -> None:
    """Whether it was stopped or waits; not before the last check."""
    pulse = begun()
    pulse.hangs(sight)
    assert looks(pulse, [sight] * (CHECKS + 2)).index(True) >= CHECKS - 2
    assert looks(pulse, [sight]) == [True]


@pytest.mark.parametrize(
    "sights",
    [
        [ThreadState("R", 7)] * 100,
        [ThreadState("S", number) for number in range(100)],
        [None] * 100,
        [WAITING, WAITING, WAITING, None] * 25,
        ([WAITING] * (CHECKS - 1) + [ThreadState("R", 7)]) * 10,
    ],
    ids=["waits for a processor", "runs now and then", "unknown", "gaps", "woke"],
)
def test_who_is_silent_on_a_busy_machine_does_not_hang(sights: list[ThreadState | None]) -> None:
    """It would go on if it could."""
    assert True not in looks(begun(), sights)


def test_one_beat_is_enough() -> None:
    """However idle it was before."""
    pulse = begun()
    for _ in range(10):
        assert True not in looks(pulse, [WAITING] * (CHECKS - 1))
        pulse.beat()


def test_who_has_not_begun_does_not_hang() -> None:
    """A start may take its time."""
    assert True not in looks(HangDetector(), [WAITING] * 100)


def test_the_kernel_is_asked() -> None:
    """A stopped process shows as stopped, with constant CPU time; a dead one shows nothing."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        os.kill(program.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        first = read_thread_state(program.pid)
        assert first is not None
        assert first.state == "T"
        assert first == read_thread_state(program.pid)
    finally:
        program.kill()
        program.wait()
    assert read_thread_state(program.pid) is None


@pytest.mark.parametrize(
    "hangs",
    ["os.kill(os.getpid(), signal.SIGSTOP)", "time.sleep(600)"],
    ids=["stopped", "waits"],
)
async def test_a_part_that_hangs_is_killed_and_started_again(tmp_path: Path, hangs: str) -> None:
    """The log says so, and the heartbeat is no line of its log."""
    log, events = RotatingLog(tmp_path / "part"), RotatingLog(tmp_path / "events")
    changed = asyncio.Event()

    async def sleep(_: float) -> None:
        await asyncio.sleep(0.01)

    spec = PartSpec("part", (sys.executable, "-c", BEATS + hangs), os.environ, beats=True)
    part = Part(spec, log, logger(events, "test"), changed.set, sleep=sleep)
    part.begin()
    try:
        async with asyncio.timeout(120):
            while part.status.restarts < 2:
                changed.clear()
                await changed.wait()
    finally:
        await part.stop()
    assert part.status.last_exit == "killed by SIGKILL"
    told = [json.loads(line)["event"] for line in (tmp_path / "events").read_text().splitlines()]
    assert told.count("hung; killed") >= 2
    assert (tmp_path / "part").read_bytes() == b""
    events.close()


async def test_a_loop_that_goes_on_says_so() -> None:
    """One line each time; it goes on even when nothing reads them any more."""
    read_end, write_end = os.pipe()
    heard: list[bytes] = []

    async def sleep(_: float) -> None:
        if len(heard) < 2:
            heard.append(os.read(read_end, 99))
            if len(heard) == 2:
                os.close(read_end)
        else:
            raise asyncio.CancelledError

    with os.fdopen(write_end, "wb", 0), contextlib.suppress(asyncio.CancelledError):
        await beat_forever(write_end, sleep)
    assert heard == [LINE] * 2


@pytest.mark.parametrize("workers", [1, 3])
def test_our_own_programs_are_watched(workers: int) -> None:
    """They hold the public addresses: while one hangs, so do all its clients."""
    layout = Layout(Path("/srv/node"))
    parts = service_part(layout, {}, workers), *api_parts(layout, {}, workers)
    assert all(part.beats for part in parts)
