"""What data nodes report of the public address; the passive only what would keep it away.

Its service writes the report as JSON, with a lease, under `keys.address_report(member)`; the
cluster reads it.
"""

from enum import StrEnum

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json


class Holding(StrEnum):
    """Whether a node holds the public address.

    NOBODY: it does not, and no other node is known to. CONFLICT: another machine answers for the
    address. CANNOT: it tries to take the address and fails.
    """

    HELD = "HELD"
    NOBODY = "NOBODY"
    CONFLICT = "CONFLICT"
    CANNOT = "CANNOT"


class AddressState(msgspec.Struct, frozen=True):
    """The public address as one node sees it.

    ``detail`` is the other machine's MAC address (CONFLICT) or the reason (CANNOT); bounded.
    """

    holding: Holding
    detail: str = ""


def encode(state: AddressState) -> bytes:
    """Encode a report for the store."""
    return msgspec.json.encode(state)


def decode(data: bytes) -> AddressState:
    """Decode a report from the store. Raises msgspec.DecodeError."""
    return bounded_json.decode(data, AddressState)


prepare(__name__)
