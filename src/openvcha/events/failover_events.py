"""Events about failovers that did not take place."""

from collections.abc import Iterable, Mapping

from openvcha.api.messages import PREFIX, message
from openvcha.api.structures import EventSeverity, LocalizableMessage
from openvcha.events.state_diff import VCHA, EventDraft

# Keyed by message id: the record of an ended task has these ids, but no type.
_KINDS: Mapping[str, str] = {
    f"{PREFIX}failover.mode.disabled": f"{VCHA}failover.failed.disabled.mode",
    f"{PREFIX}failover.node.lost": f"{VCHA}failover.failed.node.lost",
    f"{PREFIX}failover.passive.not.ready": f"{VCHA}failover.failed.passive.not.ready",
    f"{PREFIX}failover.stranger.unproven": f"{VCHA}failover.failed.passive.not.ready",
}


def failed_kind(reasons: Iterable[LocalizableMessage]) -> str | None:
    """Return the type of the event of a failover that failed for these reasons, if it has one."""
    return next((_KINDS[reason.id] for reason in reasons if reason.id in _KINDS), None)


def refused(reasons: tuple[LocalizableMessage, ...]) -> EventDraft | None:
    """Return the event of a failover that was refused; None when its reason has none."""
    kind = failed_kind(reasons)
    if kind is None:
        return None
    why = " ".join(reason.default_message for reason in reasons)
    text = message("event.failover.refused", why)
    return EventDraft(type=kind, severity=EventSeverity.ERROR, message=text)
