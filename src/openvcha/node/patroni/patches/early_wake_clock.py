"""A replacement for the module ``time`` whose sleeps end early, once their condition holds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Enough = Callable[[], bool]


class EarlyWakeClock:
    """A replacement for ``time``: inside ``until`` a thread sleeps only until its condition holds.

    Other threads, and this one outside ``until``, sleep as long as requested.
    """

    def __init__(self, real: Any, poll_seconds: float) -> None:
        self._real = real
        self._poll_seconds = poll_seconds
        self._thread = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextmanager
    def until(self, enough: Enough) -> Iterator[None]:
        """End this thread's sleeps during a block as soon as ``enough`` returns True."""
        self._thread.enough = enough
        try:
            yield
        finally:
            self._thread.enough = None

    def sleep(self, seconds: float) -> None:
        """Sleep until the condition holds, at most ``seconds``."""
        enough: Enough | None = getattr(self._thread, "enough", None)
        if enough is None:
            self._real.sleep(seconds)
            return
        until = self._real.monotonic() + seconds
        while (left := until - self._real.monotonic()) > 0 and not enough():
            self._real.sleep(min(self._poll_seconds, left))


def clock_of(module: Any, poll_seconds: float) -> EarlyWakeClock:
    """Return the clock of a module that imports ``time``; install it at the first call.

    Raises AttributeError if the module has no ``time``.
    """
    if not isinstance(module.time, EarlyWakeClock):
        module.time = EarlyWakeClock(module.time, poll_seconds)
    clock: EarlyWakeClock = module.time
    return clock
