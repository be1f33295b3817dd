"""The list of members that an etcd returns to its peers, even without a quorum."""

from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json

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


prepare(__name__)
