"""The sources of connections: what one subscriber of a network is taken to be. Pure."""

import ipaddress
from functools import lru_cache
from typing import Final

MAX_SOURCE_CHARACTERS: Final = 64
IPV6_PREFIX: Final = 64
"""The smallest network of a subscriber, who controls all addresses in it."""


@lru_cache(1024)
def source_of(origin: str) -> str:
    """Return the source that an address stands for: itself, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address(origin.partition("%")[0])
    except ValueError:
        return origin[:MAX_SOURCE_CHARACTERS]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
