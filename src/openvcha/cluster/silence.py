"""The failure detector: a node keeps its last known state until its silence is certain."""

import time
from collections.abc import Callable
from dataclasses import replace

from openvcha.cluster.config import NodeKind
from openvcha.cluster.observation import NodeObservation
from openvcha.cluster.verdict import ProbeHistory, Verdict, verdict
from openvcha.store.patroni.rest import PatroniNode


class SilenceDetector:
    """The probe history of one observer. ``monotonic`` counts seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._etcd: dict[str, ProbeHistory] = {}
        self._patroni: dict[str, ProbeHistory] = {}
        self._last: dict[str, PatroniNode] = {}
        self._unready: tuple[str, float] | None = None

    def is_doubtful(self, raw: NodeObservation) -> bool:
        """Return whether no part of a node answers, but its silence is not certain yet."""
        looks = self._etcd.get(raw.config.member, ProbeHistory())
        sure = verdict(looks) is Verdict.SILENT and not looks.stale(self._monotonic())
        return not raw.up and not sure

    def debounce(self, raw: NodeObservation, *, off: bool) -> NodeObservation:
        """Return the node's state after this probe; ``off``: it is certainly powered off.

        Until its silence is certain, the node keeps the state of its last answer and is marked as
        unsure. A node that has never answered has no such state to keep.
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
        looks = _note(self._patroni, member, raw.patroni is not None, self._monotonic())
        judged = verdict(looks)
        known = self._last.get(member) if judged is not Verdict.SILENT else None
        unsure = unsure or judged is Verdict.UNKNOWN
        return replace(raw, etcd_answers=answers, patroni=known, unsure=unsure)

    def unready_seconds(self, member: str | None, *, in_sync: bool) -> float:
        """Return for how many seconds this passive has not been in sync."""
        if in_sync or member is None:
            self._unready = None
            return 0.0
        now = self._monotonic()
        if self._unready is None or self._unready[0] != member:
            self._unready = member, now
        return now - self._unready[1]


def _note(known: dict[str, ProbeHistory], member: str, answered: bool, at: float) -> ProbeHistory:
    known[member] = known.get(member, ProbeHistory()).with_probe(answered=answered, at=at)
    return known[member]
