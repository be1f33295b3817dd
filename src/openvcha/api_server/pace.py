"""How much of something goes on in a second; what is over waits."""

import asyncio
from collections.abc import Callable


def now() -> float:
    """Return the time of the loop that runs, in seconds."""
    return asyncio.get_running_loop().time()


class Pace:
    """Lets ``rate`` units pass in a second, and ``burst`` units at once after a rest."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = now) -> None:
        self._rate = rate
        self._ahead = burst / rate
        self._clock = clock
        self._until = 0.0

    def delay(self) -> float:
        """Return after how many seconds the next one may pass."""
        return max(0.0, self._until - self._ahead - self._clock())

    def take(self, units: float) -> None:
        """Count what passes, whether or not it was waited for."""
        self._until = max(self._until, self._clock()) + units / self._rate
