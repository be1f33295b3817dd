"""A token bucket: a limit of the units that pass per second."""

import asyncio
from collections.abc import Callable


def now() -> float:
    """Return the running loop's time, in seconds."""
    return asyncio.get_running_loop().time()


class TokenBucket:
    """A bucket that passes ``rate`` units per second, and up to ``burst`` at once after a pause."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = now) -> None:
        self._rate = rate
        self._ahead = burst / rate
        self._clock = clock
        self._until = 0.0

    def delay(self) -> float:
        """Return the seconds until the next unit may pass."""
        return max(0.0, self._until - self._ahead - self._clock())

    def take(self, units: float) -> None:
        """Count units that pass, whether or not the delay was observed."""
        self._until = max(self._until, self._clock()) + units / self._rate
