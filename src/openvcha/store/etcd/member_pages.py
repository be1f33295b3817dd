"""The pages that each member of etcd serves even without a quorum: its health, the members."""

from enum import Enum, auto
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json
from openvcha.store.bounded_json import json_object
from openvcha.store.etcd import wire

MEMBERS: Final = "/members"
"""The path that returns the list, on the peer port."""


class PeerMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member; ``name`` is empty until it has started."""

    name: str = ""
    peer_urls: tuple[str, ...] | None = msgspec.field(name="peerURLs", default=None)
    learner: bool = msgspec.field(name="isLearner", default=False)


def read_members(page: bytes) -> tuple[PeerMember, ...] | None:
    """Return the members from the body of MEMBERS; None if it is invalid."""
    try:
        return bounded_json.decode(page, tuple[PeerMember, ...])
    except msgspec.DecodeError:
        return None


HEALTH: Final = f"/health?exclude={wire.NOSPACE}"
"""The path that returns the health. A full store does not count as unhealthy."""


class MemberHealth(Enum):
    """The health of a responding member: whether it has a quorum."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()
    """The response is invalid: it implies nothing."""


_HEALTH: Final = {"true": MemberHealth.HEALTHY, "false": MemberHealth.UNHEALTHY}


def read_health(page: bytes) -> MemberHealth:
    """Return the health from the body of HEALTH: ``health`` is the text ``true`` or ``false``."""
    text = (json_object(page) or {}).get("health")
    return (
        _HEALTH.get(text, MemberHealth.UNKNOWN) if isinstance(text, str) else MemberHealth.UNKNOWN
    )


prepare(__name__)
