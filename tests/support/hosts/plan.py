"""The addresses of hosts and their two networks: pure."""

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FIRST_HOST = 11
CLIENT = 254
"""Where the switch, and so each client in its namespace, is in the management network."""


@dataclass(frozen=True)
class Subnets:
    """The subnets of one address family, which exist in no real network."""

    management: Network
    ha: Network

    def lines(self, host: int) -> list[str]:
        """Return the commands of `ip` that give a host (from 1) its addresses."""
        return [
            f"addr add {at(self.management, FIRST_HOST - 1 + host)} dev mgmt nodad",
            f"addr add {at(self.ha, FIRST_HOST - 1 + host)} dev ha nodad",
        ]


IPV4 = Subnets(ipaddress.ip_network("198.18.1.0/24"), ipaddress.ip_network("198.18.2.0/24"))
"""Of RFC 2544: for measurements."""
IPV6 = Subnets(ipaddress.ip_network("2001:db8:0:1::/64"), ipaddress.ip_network("2001:db8:0:2::/64"))
"""Of RFC 3849: for documentation."""


def bare(network: Network, host: int) -> str:
    """Return the address of a host (from 1) in a network, without a prefix."""
    return str(network[FIRST_HOST - 1 + host])


def at(network: Network, number: int) -> str:
    """Return an address of a network with its prefix length."""
    return f"{network[number]}/{network.prefixlen}"
