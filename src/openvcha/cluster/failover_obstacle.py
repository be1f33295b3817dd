"""Why the cluster cannot fail over, as a type; events, records and messages follow from it."""

from collections.abc import Iterable
from enum import Enum

from openvcha.api.messages import PREFIX, message
from openvcha.api.structures import LocalizableMessage


class FailoverObstacle(Enum):
    """Why the cluster cannot fail over; the value is the id of the message that says so."""

    MODE_DISABLED = "failover.mode.disabled"
    NODE_LOST = "failover.node.lost"
    NOT_IN_SYNC = "failover.passive.not.ready"
    UNPROVEN = "failover.stranger.unproven"
    """The leader was removed from the cluster, and no node provably has its writes."""

    def message(self, *arguments: object) -> LocalizableMessage:
        """Return the message that says so."""
        return message(self.value, *arguments)

    @classmethod
    def among(cls, reasons: Iterable[LocalizableMessage]) -> "FailoverObstacle | None":
        """Return the first obstacle among the reasons of an error, also of a stored one.

        The record of an ended task has only the ids.
        """
        known = {PREFIX + obstacle.value: obstacle for obstacle in cls}
        return next((known[reason.id] for reason in reasons if reason.id in known), None)
