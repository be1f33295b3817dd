"""The pause before a retry."""

import dataclasses

INITIAL_SECONDS = 0.2
MAX_SECONDS = 10.0
CALM_SECONDS = 30.0


@dataclasses.dataclass
class Backoff:
    """A pause that doubles with each failure and resets after a run of ``calm`` seconds."""

    first: float = INITIAL_SECONDS
    longest: float = MAX_SECONDS
    calm: float = CALM_SECONDS
    failures: int = 0

    def pause(self, ran: float) -> float:
        """Return the pause after a run that lasted `ran` seconds."""
        if ran >= self.calm:
            self.failures = 0
        pause = min(self.longest, self.first * float(1 << min(self.failures, 30)))
        self.failures += 1
        return pause
