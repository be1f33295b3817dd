"""The sources of connections: what one subscriber of a network is taken to be. Pure."""

import ipaddress
from functools import lru_cache
from typing import Final

MAX_SOURCE_CHARACTERS: Final = 64
IPV6_PREFIX: Final = 64
"""The smallest network of a subscriber, who controls all addresses in it."""
IPV6_SITE_PREFIX, IPV4_SITE_PREFIX = 48, 24
"""Networks that are assigned as a whole, so that one party may control all sources in them."""


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


def site_of(source: str) -> str:
    """Return the network that a source is in: the /48 of an IPv6 one, the /24 of an IPv4 one."""
    try:
        network = ipaddress.ip_network(source)
    except ValueError:
        return source
    prefix = IPV6_SITE_PREFIX if network.version == 6 else IPV4_SITE_PREFIX
    return str(network.supernet(new_prefix=prefix))
