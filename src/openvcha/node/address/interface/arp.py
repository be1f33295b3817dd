"""ARP packets for an IPv4 address (RFC 826, RFC 5227): who has it, and that we have it. Pure."""

import struct
from ipaddress import IPv4Address
from typing import Final

PROTOCOL: Final = 0x0806
BROADCAST: Final = b"\xff" * 6
NO_MAC: Final = bytes(6)
MAC_BYTES: Final = 6
_NOBODY: Final = bytes(4)
_ETHERNET: Final = struct.Struct("!6s6sH")
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_KIND: Final = (1, 0x0800, MAC_BYTES, 4)  # Ethernet, IPv4, and the lengths of their addresses
_REQUEST, _REPLY = 1, 2
FRAME_BYTES: Final = _ETHERNET.size + _ARP.size
SENDER_OFFSET: Final = 28
"""Where in a frame the sender's IPv4 address is."""


def probe(mac: bytes, address: IPv4Address) -> bytes:
    """Return a frame that asks who has the address, and changes nobody's neighbor table."""
    return _frame(mac, _REQUEST, _NOBODY, NO_MAC, address.packed)


def announcements(mac: bytes, address: IPv4Address) -> tuple[bytes, ...]:
    """Return frames that tell all neighbors who has the address: some obey only one kind."""
    own = address.packed
    return (
        _frame(mac, _REQUEST, own, NO_MAC, own),
        _frame(mac, _REPLY, own, BROADCAST, own),
    )


def claimant(frame: bytes, mac: bytes, address: IPv4Address) -> bytes | None:
    """Return the MAC of another machine that says it has the address; None: the frame does not.

    A mere probe by another machine is no claim: the leader key decides between two that probe.
    """
    if len(frame) < FRAME_BYTES:
        return None
    if _ETHERNET.unpack_from(frame)[2] != PROTOCOL:
        return None
    *kind, operation, sender, has, _, _ = _ARP.unpack_from(frame, _ETHERNET.size)
    if tuple(kind) != _KIND or operation not in {_REQUEST, _REPLY} or has != address.packed:
        return None
    return None if sender == mac else bytes(sender)


def _frame(mac: bytes, operation: int, own: bytes, target_mac: bytes, target: bytes) -> bytes:
    arp = _ARP.pack(*_KIND, operation, mac, own, target_mac, target)
    return _ETHERNET.pack(BROADCAST, mac, PROTOCOL) + arp
