"""How long others have been silent, without a gap: only lasting silence counts as being off."""

from dataclasses import dataclass

SILENCE_SECONDS = 30.0
MAX_GAP_SECONDS = 10.0
"""Longer than the interval between two probes of a task (5 s), with the probe itself."""
MIN_PROBES = 6


@dataclass(frozen=True)
class Silence:
    """Consecutive probes without a response: start of the first, end of the last, in seconds."""

    since: float
    last: float
    probes: int

    @property
    def lasted(self) -> bool:
        """Return whether it has lasted long enough, over enough probes."""
        return self.last - self.since >= SILENCE_SECONDS and self.probes >= MIN_PROBES


def prolonged(before: Silence | None, began: float, ended: float) -> Silence:
    """Return the silence with one more probe; after a gap, it starts at that probe's end."""
    if ended - (before.last if before else began) > MAX_GAP_SECONDS:
        return Silence(ended, ended, 1)
    if before is None:
        return Silence(began, ended, 1)
    return Silence(before.since, ended, before.probes + 1)
