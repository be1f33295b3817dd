"""Events about failovers that did not take place."""

from openvcha.api.messages import message
from openvcha.api.structures import EventSeverity, LocalizableMessage
from openvcha.cluster.failover_obstacle import FailoverObstacle
from openvcha.events.state_diff import VCHA, EventDraft


def failed_type(obstacle: FailoverObstacle) -> str:
    """Return the type of the event of a failover that this has prevented."""
    match obstacle:
        case FailoverObstacle.MODE_DISABLED:
            return f"{VCHA}failover.failed.disabled.mode"
        case FailoverObstacle.NODE_LOST:
            return f"{VCHA}failover.failed.node.lost"
        case FailoverObstacle.NOT_IN_SYNC | FailoverObstacle.UNPROVEN:
            return f"{VCHA}failover.failed.passive.not.ready"


def refused(reasons: tuple[LocalizableMessage, ...]) -> EventDraft | None:
    """Return the event of a failover that was refused; None when its reason has none."""
    obstacle = FailoverObstacle.among(reasons)
    if obstacle is None:
        return None
    why = " ".join(reason.default_message for reason in reasons)
    text = message("event.failover.refused", why)
    return EventDraft(type=failed_type(obstacle), severity=EventSeverity.ERROR, message=text)
