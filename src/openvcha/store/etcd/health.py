"""The health that a member of etcd reports."""

from enum import Enum, auto
from typing import Final

from openvcha.store.bounded_json import json_object
from openvcha.store.etcd import wire

HEALTH: Final = f"/health?exclude={wire.NOSPACE}"
"""The path that returns the health. A full store does not count as unhealthy."""


class MemberHealth(Enum):
    """The health of a responding member: whether it has a quorum."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()
    """The response is invalid: it implies nothing."""


_SAID: Final = {"true": MemberHealth.HEALTHY, "false": MemberHealth.UNHEALTHY}


def read_health(page: bytes) -> MemberHealth:
    """Return the health from the body of HEALTH: ``health`` is the text ``true`` or ``false``."""
    said = (json_object(page) or {}).get("health")
    return _SAID.get(said, MemberHealth.UNKNOWN) if isinstance(said, str) else MemberHealth.UNKNOWN
