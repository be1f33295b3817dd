"""Detection of hung programs: they send a heartbeat every second, but silence proves nothing.

On a busy machine a program may be silent for long because it waits for a CPU. The kernel counts its
context switches. If that count stays the same in several checks as well, the program waits for
something that never comes (or is stopped). A program in an endless loop cannot be distinguished
from a starved one, and is left alone.
"""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from openvcha.node.process.supervisor_watch import thread_state
from openvcha.system.proc import PROC

BEAT = b"openvcha: goes on"
BEAT_SECONDS = 1.0
CHECK_SECONDS = 1.0
CHECKS = 10
RUNS = "R"

Sleep = Callable[[float], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class ThreadState:
    """The kernel's view of a program's first thread: its state and its context switches."""

    state: str
    switches: int


class HangDetector:
    """The heartbeats of one run of a program, and its thread states since the last one."""

    def __init__(self) -> None:
        self._begun = self._heard = False
        self._still = 0
        self._last: ThreadState | None = None

    def beat(self) -> None:
        """Record a heartbeat."""
        self._begun = self._heard = True

    def hangs(self, thread: ThreadState | None) -> bool:
        """Return whether the program hangs, after one more check; None (unknown): alive."""
        still = thread is not None and thread.state != RUNS and thread == self._last
        self._still = self._still + 1 if still and self._begun and not self._heard else 0
        self._heard, self._last = False, thread
        return self._still >= CHECKS


def read_thread_state(pid: int, proc: Path = PROC) -> ThreadState | None:
    """Return the state of a program's first thread; None if it has exited or is not counted."""
    found = thread_state(pid, str(proc))
    return ThreadState(*found) if found else None


async def wait_until_hung(
    detector: HangDetector, read: Callable[[], ThreadState | None], sleep: Sleep = asyncio.sleep
) -> None:
    """Poll the program, and return when it hangs.

    Checks are counted, not seconds: an observer that was suspended has not read any heartbeats.
    """
    while not detector.hangs(read()):
        await sleep(CHECK_SECONDS)


async def beat_forever(output: int, sleep: Sleep = asyncio.sleep) -> None:
    """Write a heartbeat every second, as long as this program's event loop runs."""
    while True:
        with contextlib.suppress(OSError):
            os.write(output, BEAT + b"\n")
        await sleep(BEAT_SECONDS)
