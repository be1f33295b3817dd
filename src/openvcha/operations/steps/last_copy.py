"""The last-copy guard: nothing is deleted unless another node has every acknowledged write."""

from openvcha.api.messages import message
from openvcha.cluster.findings.health import writable
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.refusal import Persistence, Refusal


def last_copy(seen: Observation, member: str, name: str) -> Refusal | None:
    """Return why a node may have the last copy; None otherwise. ``name`` is for people.

    Only a running primary is known to have every acknowledged write.
    """
    active = seen.active
    if active is None:
        return Refusal(message("no.active"), Persistence.MOMENTARY)
    if active.config.member == member:
        return Refusal(message("active.is", name))
    if active.unsure:
        return Refusal(message("node.unsure", "active", active.config.name), Persistence.MOMENTARY)
    if not writable(active):
        return Refusal(message("last.copy", name, active.config.name), Persistence.TRANSIENT)
    return None
