"""Detection of a failing member: the node's own etcd does not stay up while the others serve.

The node works with the others, so the fault would go unnoticed until the next loss breaks quorum.
"""

from openvcha.node.process.status import Contact, PartStatus

CALM_SECONDS = 30.0
"""Longer than the longest pause between two starts: a member that ran this long is up."""
MAX_EXITS = 3


class OwnMember:
    """A count of how often the member's program has ended without a long run in between."""

    def __init__(self, part: PartStatus) -> None:
        self._restarts = part.restarts
        self._ends = 0
        self._ended = float("-inf")

    def note(self, part: PartStatus, contact: Contact, now: float) -> str | None:
        """Return the note for the node's status, if any. ``now`` is in seconds."""
        if now - self._ended >= CALM_SECONDS:
            self._ends = 0
        if part.restarts != self._restarts:
            self._ends += part.restarts - self._restarts
            self._restarts, self._ended = part.restarts, now
        if self._ends < MAX_EXITS or contact is not Contact.CONNECTED:
            return None
        return (
            f"this node's own store member does not stay up (last: {part.last_exit}). The"
            " node continues on the other members, but the next loss stops the cluster. See"
            " logs/etcd.jsonl. Redeploy this node. If it is the active: only if the mode is"
            " ENABLED and the passive is in sync, power it off first; the passive then takes over"
        )
