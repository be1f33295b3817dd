"""Which replication slots belong to members of the cluster."""

import re

MEMBER_SLOT = re.compile(r"[a-z0-9_]*_[0-9a-f]{6}")
"""As Patroni makes a slot's name of the name of a member: see operations.steps.new_node."""


def is_member_slot(name: str) -> bool:
    """Return whether a slot is, or was, the one of a member."""
    return MEMBER_SLOT.fullmatch(name) is not None
