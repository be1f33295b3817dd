"""What is known of a node between its answers: it stays what it was until silence is sure."""

import time
from collections.abc import Callable
from dataclasses import replace

from openvcha.cluster.config import NodeKind
from openvcha.cluster.observation import NodeObservation
from openvcha.cluster.verdict import Looks, Verdict, verdict
from openvcha.store.patroni.rest import PatroniNode


class Held:
    """Remembers the looks of one observer. ``monotonic`` counts seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._etcd: dict[str, Looks] = {}
        self._patroni: dict[str, Looks] = {}
        self._last: dict[str, PatroniNode] = {}
        self._unready: tuple[str, float] | None = None

    def doubtful(self, raw: NodeObservation) -> bool:
        """Return whether nothing of a node answers, and its silence alone is no verdict yet."""
        looks = self._etcd.get(raw.config.member, Looks())
        sure = verdict(looks) is Verdict.SILENT and not looks.stale(self._monotonic())
        return not raw.up and not sure

    def settle(self, raw: NodeObservation, *, off: bool) -> NodeObservation:
        """Return the node as it is to be judged after this look; ``off``: it surely has no power.

        While silence is not sure it is as its last answer said, and marked as unsure. Of a node
        that has not answered once nothing better is known than that it does not.
        """
        member, now = raw.config.member, self._monotonic()
        if off:
            self._etcd[member] = self._patroni[member] = Looks.of_silence(now)
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

    def unready(self, member: str | None, *, in_sync: bool) -> float:
        """Return for how many seconds this passive has been seen without being in sync."""
        if in_sync or member is None:
            self._unready = None
            return 0.0
        now = self._monotonic()
        if self._unready is None or self._unready[0] != member:
            self._unready = member, now
        return now - self._unready[1]


def _note(known: dict[str, Looks], member: str, answered: bool, at: float) -> Looks:
    known[member] = known.get(member, Looks()).noted(answered=answered, at=at)
    return known[member]
