"""Names of what the cluster creates in PostgreSQL: roles, the first database, slots."""

import re

SUPERUSER = "postgres"
REPLICATION_USER = "replicator"
REWIND_USER = "rewind"
OWN_ROLES = (SUPERUSER, REPLICATION_USER, REWIND_USER)

APPLICATION_USER = "app"
APPLICATION_DATABASE = "app"
"""What a new cluster has for the application that uses it."""

MEMBER_SLOT = re.compile(r"[a-z0-9_]*_[0-9a-f]{6}")
"""The form of Patroni's slot names for our member names: see operations.steps.new_node."""


def is_member_slot(name: str) -> bool:
    """Return whether a slot belongs, or belonged, to a member."""
    return MEMBER_SLOT.fullmatch(name) is not None
