"""The states of the public address, as its holder reports them."""

from typing import Final

from openvcha.api.foreign_text import truncate
from openvcha.store.address_reports import AddressState, Holding

MAX_DETAIL_LENGTH: Final = 200

HELD: Final = AddressState(Holding.HELD)
NOBODY: Final = AddressState(Holding.NOBODY)


def conflict(mac: str) -> AddressState:
    """Return the state in which another machine, with this MAC address, answers for the address."""
    return AddressState(Holding.CONFLICT, truncate(mac, MAX_DETAIL_LENGTH))


def cannot(reason: str) -> AddressState:
    """Return the state in which the node cannot take the address, for this reason."""
    return AddressState(Holding.CANNOT, truncate(reason, MAX_DETAIL_LENGTH))
