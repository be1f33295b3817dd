"""From probes to a verdict: a single missed answer is not silence.

A probe has one second. A busy machine, an election or a lost packet makes some fail; that must not
have the consequences of a lost node (a redeploy, an event, a degraded cluster).
"""

from dataclasses import dataclass, replace
from enum import Enum

MIN_SILENCE_SECONDS = 3.0
"""Longer than an election in the store with a second round, shorter than any wait."""
MIN_MISSED = 3
MAX_GAP_SECONDS = 10.0
"""Longer than the interval between two probes of a waiting task (5 s), with the probe itself."""


class Verdict(Enum):
    """The conclusion from all probes of one target; UNKNOWN is a result, too."""

    ANSWERS = "answers"
    SILENT = "silent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProbeHistory:
    """The recent probes of one target: how many in a row got no answer.

    ``first`` and ``last`` are the times of these probes, in seconds. ``ever``: whether any earlier
    probe got an answer.
    """

    ever: bool = False
    missed: int = 0
    first: float = 0.0
    last: float = 0.0

    def with_probe(self, *, answered: bool, at: float) -> "ProbeHistory":
        """Return the history with one more probe; an answer or a gap ends the silence."""
        if answered:
            return ProbeHistory(ever=True)
        if not self.missed or self.stale(at):
            return replace(self, missed=1, first=at, last=at)
        return replace(self, missed=self.missed + 1, last=at)

    def stale(self, at: float) -> bool:
        """Return whether the last probe is so old that missed answers prove nothing."""
        return at - self.last > MAX_GAP_SECONDS

    @classmethod
    def of_silent_node(cls, at: float) -> "ProbeHistory":
        """Return the history of a target that is certainly silent."""
        return cls(missed=MIN_MISSED, first=at - MIN_SILENCE_SECONDS, last=at)


def verdict(looks: ProbeHistory) -> Verdict:
    """Return the verdict on a history. Silence must last, for several probes without a gap."""
    if not looks.missed:
        return Verdict.ANSWERS if looks.ever else Verdict.UNKNOWN
    held = looks.last - looks.first >= MIN_SILENCE_SECONDS
    return Verdict.SILENT if held and looks.missed >= MIN_MISSED else Verdict.UNKNOWN
