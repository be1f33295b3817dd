"""Recognition of the replication slots that belong to members of the cluster."""

import re

MEMBER_SLOT = re.compile(r"[a-z0-9_]*_[0-9a-f]{6}")
"""The form of Patroni's slot names for our member names: see operations.steps.new_node."""


def is_member_slot(name: str) -> bool:
    """Return whether a slot belongs, or belonged, to a member."""
    return MEMBER_SLOT.fullmatch(name) is not None
