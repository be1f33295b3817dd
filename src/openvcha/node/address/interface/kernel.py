"""The addresses of an interface in the kernel, by netlink; changing them needs NET_ADMIN."""

import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, Protocol

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from openvcha.node.address.interface.arp import MAC_BYTES
from openvcha.node.address.interface.packets import Address

_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_NO_DUPLICATE_DETECTION: Final = 0x02  # IFA_F_NODAD: it would take a second; we ask ourselves
_LIKE_GONE: Final = frozenset({errno.ENODEV, errno.EADDRNOTAVAIL})
SYSCTLS: Final = Path("/proc/sys/net")


@dataclass(frozen=True)
class Interface:
    """An interface as it is now. ``up``: it is switched on and has a carrier."""

    index: int
    mac: bytes
    up: bool


class Kernel(Protocol):
    """The kernel's addresses: Netlink; tests replace it. Each method raises OSError."""

    async def interface(self, name: str) -> Interface:
        """Return an interface. Raises OSError (ENODEV) without one of this name."""

    async def macs(self) -> frozenset[bytes]:
        """Return the MACs of all interfaces of this machine."""

    async def has(self, index: int, address: Address) -> bool:
        """Return whether the interface has the address."""

    async def put(self, index: int, address: Address, prefix: int, lifetime: int) -> None:
        """Add the address for this many seconds from now, or refresh it."""

    async def delete(self, index: int, address: Address) -> None:
        """Remove the address, with whatever prefix; do nothing if it is not there."""


class Netlink:
    """The kernel's addresses, in this network namespace."""

    def __init__(self) -> None:
        self._route = AsyncIPRoute()

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    async def interface(self, name: str) -> Interface:
        """Return an interface. Raises OSError (ENODEV) without one of this name."""
        for link in await _done(self._route.link("get", ifname=name)):
            mac = _mac(link)
            if len(mac) != MAC_BYTES:
                raise OSError(errno.ENOTSUP, f"{name} is no Ethernet interface")
            wanted = _IFF_UP | _IFF_RUNNING
            return Interface(int(link["index"]), mac, link["flags"] & wanted == wanted)
        raise OSError(errno.ENODEV, f"there is no interface {name}")

    async def macs(self) -> frozenset[bytes]:
        """Return the MACs of all interfaces of this machine."""
        return frozenset([_mac(link) async for link in await _done(self._route.get_links())])

    async def has(self, index: int, address: Address) -> bool:
        """Return whether the interface has the address."""
        return await self._prefix(index, address) is not None

    async def put(self, index: int, address: Address, prefix: int, lifetime: int) -> None:
        """Add the address for this many seconds from now, or refresh it."""
        request: dict[str, Any] = {
            "index": index,
            "address": str(address),
            "prefixlen": prefix,
            "valid_lft": lifetime,
            "preferred_lft": lifetime,
        }
        if isinstance(address, IPv6Address):
            # Not preferred: our own connections must come from the node's own address.
            request |= {"preferred_lft": 0, "flags": _NO_DUPLICATE_DETECTION}
        await _done(self._route.addr("replace", **request))

    async def delete(self, index: int, address: Address) -> None:
        """Remove the address, with whatever prefix; do nothing if it is not there."""
        while (prefix := await self._prefix(index, address)) is not None:
            try:
                await _done(
                    self._route.addr("del", index=index, address=str(address), prefixlen=prefix)
                )
            except OSError as error:
                if error.errno not in _LIKE_GONE:
                    raise
                return

    async def _prefix(self, index: int, address: Address) -> int | None:
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        found = await _done(self._route.get_addr(family=family, index=index))
        of_ours = [
            int(one["prefixlen"])
            async for one in found
            if (one.get("local") or one.get("address")) == str(address)
        ]
        return of_ours[0] if of_ours else None


def _mac(link: Any) -> bytes:
    return bytes.fromhex((link.get("address") or "").replace(":", ""))


async def _done(request: Any) -> Any:
    """Return the result of a request. Raises OSError where netlink reports an error."""
    try:
        return await request
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def allow_binding(address: Address, sysctls: Path = SYSCTLS) -> None:
    """Let the programs of this namespace listen at an address that it does not have yet.

    PostgreSQL binds its addresses only when it starts. Raises OSError.
    """
    family = "ipv4" if isinstance(address, IPv4Address) else "ipv6"
    path = sysctls / family / "ip_nonlocal_bind"
    if path.read_text().strip() != "1":
        path.write_text("1\n")
