"""The failure detector: a node keeps its last known state until its silence is certain.

A probe has one second. A busy machine, an election or a lost packet makes some fail; that must not
have the consequences of a lost node (a redeploy, an event, a degraded cluster).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from openvcha.cluster.config import NodeKind
from openvcha.cluster.observing.observation import NodeObservation
from openvcha.store.patroni.rest import PatroniNode

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
    """The recent probes of one target: how many in a row got no response.

    ``first`` and ``last`` are the times of these probes, in seconds. ``ever``: whether any earlier
    probe got a response.
    """

    ever: bool = False
    missed: int = 0
    first: float = 0.0
    last: float = 0.0

    def with_probe(self, *, answered: bool, at: float) -> "ProbeHistory":
        """Return the history with one more probe; a response or a gap ends the silence."""
        if answered:
            return ProbeHistory(ever=True)
        if not self.missed or self.stale(at):
            return replace(self, missed=1, first=at, last=at)
        return replace(self, missed=self.missed + 1, last=at)

    def stale(self, at: float) -> bool:
        """Return whether the last probe is so old that missed responses prove nothing."""
        return at - self.last > MAX_GAP_SECONDS

    @classmethod
    def of_silent_node(cls, at: float) -> "ProbeHistory":
        """Return the history of a target that is certainly silent."""
        return cls(missed=MIN_MISSED, first=at - MIN_SILENCE_SECONDS, last=at)


def verdict(history: ProbeHistory) -> Verdict:
    """Return the verdict on a history. Silence must last, for several probes without a gap."""
    if not history.missed:
        return Verdict.ANSWERS if history.ever else Verdict.UNKNOWN
    held = history.last - history.first >= MIN_SILENCE_SECONDS
    return Verdict.SILENT if held and history.missed >= MIN_MISSED else Verdict.UNKNOWN


@dataclass(frozen=True)
class Unready:
    """The consecutive observations, from ``first`` to ``last``, of a passive out of sync."""

    member: str
    first: float
    last: float

    def continues(self, member: str, at: float) -> bool:
        """Return whether this member is meant, and the last observation is recent enough."""
        return member == self.member and at - self.last <= MAX_GAP_SECONDS


class SilenceDetector:
    """The probe history of one observer. ``monotonic`` counts seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._etcd: dict[str, ProbeHistory] = {}
        self._patroni: dict[str, ProbeHistory] = {}
        self._last: dict[str, PatroniNode] = {}
        self._unready: Unready | None = None

    def is_doubtful(self, raw: NodeObservation) -> bool:
        """Return whether no part of a node responds, but its silence is not certain yet."""
        history = self._etcd.get(raw.config.member, ProbeHistory())
        sure = verdict(history) is Verdict.SILENT and not history.stale(self._monotonic())
        return not raw.up and not sure

    def debounce(self, raw: NodeObservation, *, off: bool) -> NodeObservation:
        """Return the node's state after this probe; ``off``: it is certainly powered off.

        Until its silence is certain, the node keeps the state of its last response and is marked as
        unsure. A node that has never responded has no such state to keep.
        """
        member, now = raw.config.member, self._monotonic()
        if off:
            self._etcd[member] = self._patroni[member] = ProbeHistory.of_silent_node(now)
            return raw
        etcd = _note(self._etcd, member, raw.etcd_answers, now)
        judged = verdict(etcd)
        answers = raw.etcd_answers or (etcd.ever and judged is Verdict.UNKNOWN)
        if raw.config.kind is NodeKind.WITNESS:
            return replace(raw, etcd_answers=answers, unsure=judged is Verdict.UNKNOWN)
        return self._with_patroni(raw, answers, unsure=judged is Verdict.UNKNOWN)

    def _with_patroni(
        self, raw: NodeObservation, answers: bool, *, unsure: bool
    ) -> NodeObservation:
        member = raw.config.member
        if raw.patroni is not None:
            self._last[member] = raw.patroni
        history = _note(self._patroni, member, raw.patroni is not None, self._monotonic())
        judged = verdict(history)
        known = self._last.get(member) if judged is not Verdict.SILENT else None
        unsure = unsure or judged is Verdict.UNKNOWN
        return replace(raw, etcd_answers=answers, patroni=known, unsure=unsure)

    def unready_seconds(self, member: str | None, *, in_sync: bool) -> float:
        """Return for how many seconds this passive has not been in sync, without a gap."""
        if in_sync or member is None:
            self._unready = None
            return 0.0
        now, before = self._monotonic(), self._unready
        first = before.first if before and before.continues(member, now) else now
        self._unready = Unready(member, first, now)
        return now - first


def _note(known: dict[str, ProbeHistory], member: str, answered: bool, at: float) -> ProbeHistory:
    known[member] = known.get(member, ProbeHistory()).with_probe(answered=answered, at=at)
    return known[member]
