"""What a member of etcd says of its own health."""

from enum import Enum, auto
from typing import Final

from openvcha.store.bounded_json import json_object
from openvcha.store.etcd import wire

HEALTH: Final = f"/health?exclude={wire.NOSPACE}"
"""The page that says it. A full store is no reason to take a member for a lost one."""


class MemberHealth(Enum):
    """What a member that answers says: whether it reaches a quorum."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()
    """What it says cannot be read: neither the one nor the other follows from it."""


_SAID: Final = {"true": MemberHealth.HEALTHY, "false": MemberHealth.UNHEALTHY}


def read_health(page: bytes) -> MemberHealth:
    """Read the body of HEALTH: an object whose ``health`` is the text ``true`` or ``false``."""
    said = (json_object(page) or {}).get("health")
    return _SAID.get(said, MemberHealth.UNKNOWN) if isinstance(said, str) else MemberHealth.UNKNOWN
