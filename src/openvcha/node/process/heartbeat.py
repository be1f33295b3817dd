"""Does a program hang? It tells every second that it goes on; silence alone is no verdict.

On a busy machine a program may be silent for long. Then it waits for a processor, or gets one now
and then: the kernel counts how often it was given one. Where that number stands still too, look
after look, it waits for something that does not come (or was stopped). A program that computes
without end is not told from one that is starved, and is left alone.
"""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from openvcha.node.process.supervisor_watch import look
from openvcha.system.proc import PROC

BEAT = b"openvcha: goes on"
BEAT_SECONDS = 1.0
LOOK_SECONDS = 1.0
LOOKS = 10
RUNS = "R"

Sleep = Callable[[float], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Sight:
    """What the kernel shows of a program's first thread: its state, and how often it has run."""

    state: str
    switches: int


class Pulse:
    """What was heard of one run of a program, and what was seen of it while it was silent."""

    def __init__(self) -> None:
        self._begun = self._heard = False
        self._still = 0
        self._last: Sight | None = None

    def beat(self) -> None:
        """Note that it goes on."""
        self._begun = self._heard = True

    def hangs(self, sight: Sight | None) -> bool:
        """Return whether it hangs, after one more look; unknown (None) counts in its favor."""
        still = sight is not None and sight.state != RUNS and sight == self._last
        self._still = self._still + 1 if still and self._begun and not self._heard else 0
        self._heard, self._last = False, sight
        return self._still >= LOOKS


def see(pid: int, proc: Path = PROC) -> Sight | None:
    """Look at the first thread of a program; None when it has ended or nothing is counted."""
    found = look(pid, str(proc))
    return Sight(*found) if found else None


async def until_it_hangs(
    pulse: Pulse, look: Callable[[], Sight | None], sleep: Sleep = asyncio.sleep
) -> None:
    """Look again and again; return when it hangs.

    Looks are counted, not seconds: who was asleep himself has not heard anything.
    """
    while not pulse.hangs(look()):
        await sleep(LOOK_SECONDS)


async def beat_always(output: int, sleep: Sleep = asyncio.sleep) -> None:
    """Write a beat to the output each second, for as long as this program's loop goes on."""
    while True:
        with contextlib.suppress(OSError):
            os.write(output, BEAT + b"\n")
        await sleep(BEAT_SECONDS)
