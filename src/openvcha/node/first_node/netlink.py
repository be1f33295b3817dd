"""The addresses of this machine's interfaces, as the kernel lists them (rtnetlink)."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_DUMP = 0x301
"""NLM_F_REQUEST, NLM_F_ROOT and NLM_F_MATCH: all of them."""
_GET_ADDRESSES, _NEW_ADDRESS, _ERROR, _DONE = 22, 20, 2, 3
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_MOST_BYTES = 1 << 16
_SECONDS = 5.0


@dataclass(frozen=True)
class MachineAddress:
    """An address of this machine: the interface that has it, and its prefix."""

    interface: str
    address: Interface


def machine_addresses() -> tuple[MachineAddress, ...]:
    """Return all addresses of this machine, in the kernel's order. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_SECONDS)
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        size = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(size, _GET_ADDRESSES, _DUMP, 1, 0) + body)
        found: list[MachineAddress] = []
        while True:
            messages = list(parse(kernel.recv(_MOST_BYTES)))
            found += [each for each in messages if each is not None]
            if None in messages:
                return tuple(found)


def parse(data: bytes) -> Iterator[MachineAddress | None]:
    """Yield the addresses of one reply; None at the end of all replies. Raises OSError."""
    while len(data) >= _HEADER.size:
        size, kind, _, _, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= size <= len(data):
            raise OSError("the kernel's list of addresses is truncated")
        body, data = data[_HEADER.size : size], data[_aligned(size) :]
        if kind == _NEW_ADDRESS and len(body) < _ADDRESS.size:
            raise OSError("the kernel's list of addresses is malformed")
        if kind == _ERROR:
            raise OSError("the kernel refuses to list the addresses")
        if kind == _DONE:
            yield None
        elif kind == _NEW_ADDRESS:
            yield from _address(body)


def _address(body: bytes) -> Iterator[MachineAddress]:
    family, prefix, _, _, index = _ADDRESS.unpack_from(body)
    attributes = dict(_attributes(body[_ADDRESS.size :]))
    # At a point-to-point link, the first is the peer's.
    own = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if family not in {socket.AF_INET, socket.AF_INET6} or own is None:
        return
    # The interface may be gone meanwhile.
    with contextlib.suppress(OSError, ValueError):
        name = socket.if_indextoname(index)
        yield MachineAddress(name, ipaddress.ip_interface((ipaddress.ip_address(own), prefix)))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : size]
        data = data[_aligned(size) :]


def _aligned(size: int) -> int:
    return (size + 3) & ~3
