"""The last-copy guard: nothing is wiped unless another node holds every acknowledged write."""

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.health import writable
from openvcha.cluster.observation import Observation


def last_copy(seen: Observation, member: str, name: str) -> LocalizableMessage | None:
    """Return why the data of a node (``name`` is for people) may be the last; None when not.

    Only a running primary is known to hold every acknowledged write.
    """
    active = seen.active
    if active is None:
        return message("no.active")
    if active.config.member == member:
        return message("active.is", name)
    if active.unsure:
        return message("node.unsure", "active", active.config.name)
    if not writable(active):
        return message("last.copy", name, active.config.name)
    return None
