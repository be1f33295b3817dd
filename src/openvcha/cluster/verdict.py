"""From looks to a verdict: one missed answer is not silence.

A probe has a second. A busy machine, an election, a lost packet cost one now and then; what follows
from "the node is lost" (a redeploy, an event, a degraded cluster) must not hang on that.
"""

from dataclasses import dataclass, replace
from enum import Enum

HOLD_SECONDS = 3.0
"""Longer than an election in the store with a second round, shorter than anybody waits."""
LEAST_MISSED = 3
BREAK_SECONDS = 10.0
"""Longer than a task that waits lets pass between two looks (5 s), the look itself included."""


class Verdict(Enum):
    """What some looks at one thing say together; UNKNOWN is a result of its own."""

    ANSWERS = "answers"
    SILENT = "silent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Looks:
    """The last looks at one thing, as far as they count: how many in a row got no answer.

    ``first`` and ``last`` are when these were made, in seconds. ``ever``: whether one of the looks
    before got an answer.
    """

    ever: bool = False
    missed: int = 0
    first: float = 0.0
    last: float = 0.0

    def noted(self, *, answered: bool, at: float) -> "Looks":
        """Return these looks with one more; any answer ends the silence, and so does a break."""
        if answered:
            return Looks(ever=True)
        if not self.missed or self.stale(at):
            return replace(self, missed=1, first=at, last=at)
        return replace(self, missed=self.missed + 1, last=at)

    def stale(self, at: float) -> bool:
        """Return whether the last look is so long ago that what it missed proves nothing."""
        return at - self.last > BREAK_SECONDS

    @classmethod
    def of_silence(cls, at: float) -> "Looks":
        """Return looks that say for sure that nobody is there, until there is an answer."""
        return cls(missed=LEAST_MISSED, first=at - HOLD_SECONDS, last=at)


def verdict(looks: Looks) -> Verdict:
    """Judge some looks. Silence is what has lasted, seen several times and without a break."""
    if not looks.missed:
        return Verdict.ANSWERS if looks.ever else Verdict.UNKNOWN
    held = looks.last - looks.first >= HOLD_SECONDS
    return Verdict.SILENT if held and looks.missed >= LEAST_MISSED else Verdict.UNKNOWN
