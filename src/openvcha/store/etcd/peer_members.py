"""What a member of etcd tells its peers of all members, also while it has no quorum."""

from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json

MEMBERS: Final = "/members"
"""The page, at the port for peers, that says it."""


class PeerMember(msgspec.Struct, frozen=True, kw_only=True):
    """One member; ``name`` is empty until it has started."""

    name: str = ""
    peer_urls: tuple[str, ...] | None = msgspec.field(name="peerURLs", default=None)
    learner: bool = msgspec.field(name="isLearner", default=False)


def read_members(page: bytes) -> tuple[PeerMember, ...] | None:
    """Read the body of MEMBERS; None when it cannot be read."""
    try:
        return bounded_json.decode(page, tuple[PeerMember, ...])
    except msgspec.DecodeError:
        return None


prepare(__name__)
