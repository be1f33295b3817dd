"""Neighbor discovery for an IPv6 address (RFC 4861, RFC 4862): as arp.py for IPv4. Pure."""

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

PROTOCOL: Final = 0x86DD
ALL_NODES: Final = IPv6Address("ff02::1")
_SOLICITED: Final = IPv6Address("ff02::1:ff00:0").packed[:13]
_UNSPECIFIED: Final = bytes(16)
_ICMP: Final = 58
_HOPS: Final = 255
"""What a router has forwarded has less, so it comes from this link."""
SOLICITATION, ADVERTISEMENT = 135, 136
_OVERRIDE: Final = 0x20000000
"""The flag that makes neighbors replace the MAC that they know."""
_TARGET_MAC: Final = 2
_ETHERNET: Final = struct.Struct("!6s6sH")
_IP: Final = struct.Struct("!IHBB16s16s")
_MESSAGE: Final = struct.Struct("!BBHI16s")
_VERSION: Final = 6 << 28
_OPTION_UNIT: Final = 8
IP_OFFSET: Final = _ETHERNET.size
MESSAGE_OFFSET: Final = IP_OFFSET + _IP.size
FRAME_BYTES: Final = MESSAGE_OFFSET + _MESSAGE.size
NEXT_OFFSET: Final = IP_OFFSET + 6
TARGET_OFFSET: Final = MESSAGE_OFFSET + 8
"""Where in a frame the next header and the target address are."""


def probe(mac: bytes, address: IPv6Address) -> bytes:
    """Return a frame that asks who has the address, as duplicate address detection does."""
    group = IPv6Address(_SOLICITED + address.packed[-3:])
    message = _MESSAGE.pack(SOLICITATION, 0, 0, 0, address.packed)
    return _frame(mac, _UNSPECIFIED, group, message)


def announcements(mac: bytes, address: IPv6Address) -> tuple[bytes, ...]:
    """Return the frame that tells all neighbors who has the address."""
    message = _MESSAGE.pack(ADVERTISEMENT, 0, 0, _OVERRIDE, address.packed)
    option = bytes([_TARGET_MAC, 1]) + mac
    return (_frame(mac, address.packed, ALL_NODES, message + option),)


def claimant(frame: bytes, mac: bytes, address: IPv6Address) -> bytes | None:
    """Return the MAC of another machine that says it has the address; None: the frame does not."""
    if len(frame) < FRAME_BYTES:
        return None
    _, sender, protocol = _ETHERNET.unpack_from(frame)
    version, length, following, hops, source, destination = _IP.unpack_from(frame, IP_OFFSET)
    message = frame[MESSAGE_OFFSET : MESSAGE_OFFSET + length]
    if protocol != PROTOCOL or version >> 28 != 6 or (following, hops) != (_ICMP, _HOPS):
        return None
    if len(message) != length or length < _MESSAGE.size or checksum(source, destination, message):
        return None
    kind, code, _, _, target = _MESSAGE.unpack_from(message)
    if (kind, code, target) != (ADVERTISEMENT, 0, address.packed):
        return None
    claims = _announced_mac(message[_MESSAGE.size :]) or bytes(sender)
    return None if claims == mac else claims


def checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """Return the checksum of an ICMPv6 message; 0 if the message has a correct one."""
    data = source + destination + struct.pack("!IxxxB", len(message), _ICMP) + message
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _frame(mac: bytes, source: bytes, destination: IPv6Address, message: bytes) -> bytes:
    summed = checksum(source, destination.packed, message)
    message = message[:2] + struct.pack("!H", summed) + message[4:]
    header = _IP.pack(_VERSION, len(message), _ICMP, _HOPS, source, destination.packed)
    to = b"\x33\x33" + destination.packed[-4:]
    return _ETHERNET.pack(to, mac, PROTOCOL) + header + message


def _announced_mac(options: bytes) -> bytes | None:
    """Return the MAC in an advertisement's options; None if it has none of an Ethernet's form."""
    for kind, value in _options(options):
        if kind == _TARGET_MAC and len(value) == _OPTION_UNIT - 2:
            return value
    return None


def _options(options: bytes) -> Iterator[tuple[int, bytes]]:
    while len(options) >= _OPTION_UNIT:
        kind, units = options[0], options[1]
        if not units or units * _OPTION_UNIT > len(options):
            return
        yield kind, options[2 : units * _OPTION_UNIT]
        options = options[units * _OPTION_UNIT :]
