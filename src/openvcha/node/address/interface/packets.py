"""The packets of one address on one interface: a raw socket, for which NET_RAW is needed."""

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from openvcha.node.address.interface import arp, ndp

Address = IPv4Address | IPv6Address
MAX_FRAME_BYTES: Final = 2048
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER
_INSTRUCTION: Final = struct.Struct("HBBI")
_LOAD_WORD, _LOAD_BYTE, _EQUAL, _RETURN = 0x20, 0x30, 0x15, 0x06
_IS_DOWN: Final = frozenset({errno.ENETDOWN})


@dataclass(frozen=True)
class HeldAddress:
    """The address that may be held, where, and for how many seconds at most without a refresh."""

    interface: str
    address: Address
    prefix: int
    lifetime: int


class Packets(Protocol):
    """The packets of an address: PacketSocket; tests replace it."""

    def probe(self) -> None:
        """Ask who has the address. Raises OSError."""

    def announce(self) -> None:
        """Tell all neighbors that we have it. Raises OSError."""

    def claims(self) -> AsyncGenerator[bytes, None]:
        """Yield the MAC of another machine each time it says it has the address.

        Raises OSError once the interface is gone.
        """

    def close(self) -> None:
        """Close the socket."""


class PacketSocket:
    """Packets of ARP or neighbor discovery about one address, on the interface of this index.

    The kernel filters them: a busy network costs nothing here. Raises OSError.
    """

    def __init__(self, interface: str, mac: bytes, address: Address) -> None:
        self._mac = mac
        self._address = address
        protocol = arp.PROTOCOL if isinstance(address, IPv4Address) else ndp.PROTOCOL
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            # Before it is bound: no frame that does not fit gets in.
            _attach(self._socket, _filter(address))
            self._socket.setblocking(False)
            self._socket.bind((interface, protocol))
        except BaseException:
            self._socket.close()
            raise

    def probe(self) -> None:
        """Ask who has the address. Raises OSError."""
        if isinstance(self._address, IPv4Address):
            self._send(arp.probe(self._mac, self._address))
        else:
            self._send(ndp.probe(self._mac, self._address))

    def announce(self) -> None:
        """Tell all neighbors that we have it. Raises OSError."""
        if isinstance(self._address, IPv4Address):
            self._send(*arp.announcements(self._mac, self._address))
        else:
            self._send(*ndp.announcements(self._mac, self._address))

    async def claims(self) -> AsyncGenerator[bytes, None]:
        """Yield the MAC of another machine each time it says it has the address.

        Raises OSError once the interface is gone.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                frame = await loop.sock_recv(self._socket, MAX_FRAME_BYTES)
            except OSError as error:
                if error.errno not in _IS_DOWN:
                    raise
                continue  # told once; frames come again when it is up
            if mac := self._claimant(frame):
                yield mac

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _claimant(self, frame: bytes) -> bytes | None:
        if isinstance(self._address, IPv4Address):
            return arp.claimant(frame, self._mac, self._address)
        return ndp.claimant(frame, self._mac, self._address)

    def _send(self, *frames: bytes) -> None:
        for frame in frames:
            self._socket.send(frame)


def _filter(address: Address) -> bytes:
    """Return a program for the kernel that passes only frames about the address."""
    wanted: list[tuple[int, int, int]] = []
    if isinstance(address, IPv6Address):
        wanted += [
            (_LOAD_BYTE, ndp.NEXT_OFFSET, socket.IPPROTO_ICMPV6),
            (_LOAD_BYTE, ndp.MESSAGE_OFFSET, ndp.ADVERTISEMENT),
        ]
    offset = ndp.TARGET_OFFSET if isinstance(address, IPv6Address) else arp.SENDER_OFFSET
    words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
    wanted += [(_LOAD_WORD, offset + 4 * at, word) for at, word in enumerate(words)]
    program = b""
    for at, (load, place, value) in enumerate(wanted):
        to_end = 2 * (len(wanted) - at) - 1
        program += _INSTRUCTION.pack(load, 0, 0, place)
        program += _INSTRUCTION.pack(_EQUAL, 0, to_end, value)
    accept, refuse = (
        _INSTRUCTION.pack(_RETURN, 0, 0, MAX_FRAME_BYTES),
        _INSTRUCTION.pack(_RETURN, 0, 0, 0),
    )
    return program + accept + refuse


def _attach(connection: socket.socket, program: bytes) -> None:
    memory = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    described = struct.pack("HL", count, ctypes.addressof(memory))
    connection.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
