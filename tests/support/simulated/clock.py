"""Time under a test's control: a clock, or an event loop in which sleeps take no time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

SIMULATED = pytest.mark.looptime(noop_cycles=0)
"""For tests without real input and output: time passes as soon as everybody waits for it.

By default looptime turns 42 times before, so that a socket may bring something meanwhile.
"""


class Time:
    """Simulated time that passes only in sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the time at once."""
        self.now += seconds


class AtOnce(ThreadPoolExecutor):
    """A simulated thread that works when asked to, so that no real time passes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function now, in this thread; return its result as a future."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            done.set_exception(error)
        return done
