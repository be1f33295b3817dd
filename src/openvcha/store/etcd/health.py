"""What a member of etcd says of its own health."""

from enum import Enum, auto
from typing import Final

from openvcha.store.bounded_json import json_object
from openvcha.store.etcd import wire

HEALTH: Final = f"/health?exclude={wire.NOSPACE}"
"""The path that returns it. A full store does not count as unhealthy."""


class MemberHealth(Enum):
    """Whether a member that responds has a quorum."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()
    """The response is invalid: it implies neither."""


_SAID: Final = {"true": MemberHealth.HEALTHY, "false": MemberHealth.UNHEALTHY}


def read_health(page: bytes) -> MemberHealth:
    """Return the health in the body of HEALTH: ``health`` is the text ``true`` or ``false``."""
    said = (json_object(page) or {}).get("health")
    return _SAID.get(said, MemberHealth.UNKNOWN) if isinstance(said, str) else MemberHealth.UNKNOWN
