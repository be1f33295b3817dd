"""Rules between settings: values that are each allowed, but not together."""

import ipaddress
from collections.abc import Iterator

from openvcha.node.settings.findings import Finding
from openvcha.node.settings.table import SETTINGS, Values

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
ADDRESSES = ("ha", "management", "public")


def contradictions(values: Values) -> list[Finding]:
    """Return all contradictions between settings; ``values`` has each, of its own type."""
    return [*_ports(values), *_prefixes(values), *_addresses(values), *_times(values)]


def interface_of(values: Values, of: str) -> Interface | None:
    """Return an address with its prefix; None if it is not set, or its prefix is not possible.

    Without a prefix it is alone in its network.
    """
    address, prefix = str(values[f"network.{of}_address"]), values[f"network.{of}_prefix"]
    if not address:
        return None
    try:
        return ipaddress.ip_interface(f"{address}/{prefix}" if prefix else address)
    except ValueError:
        return None


def _ports(values: Values) -> Iterator[Finding]:
    used: dict[object, str] = {}
    for key in (key for key, setting in SETTINGS.items() if setting.section == "ports"):
        other = used.setdefault(values[key], key)
        if other != key:
            yield Finding(key, f"is {values[key]}, as {other} is", "choose two different ports")


def _prefixes(values: Values) -> Iterator[Finding]:
    for of in ADDRESSES:
        address, prefix = str(values[f"network.{of}_address"]), values[f"network.{of}_prefix"]
        if address and prefix and interface_of(values, of) is None:
            longest = ipaddress.ip_address(address).max_prefixlen
            text = f"is {prefix}, but {address} has {longest} bits"
            yield Finding(f"network.{of}_prefix", text, f"allowed: 0 to {longest}")


def _addresses(values: Values) -> Iterator[Finding]:
    ha, management, public = (interface_of(values, of) for of in ADDRESSES)
    for of, found in zip(ADDRESSES, (ha, management, public), strict=True):
        if found is not None and (why := _unusable(found)):
            yield Finding(f"network.{of}_address", why, "choose an address that a host can have")
    if ha and public:
        yield from _apart(ha, public, "network.ha_address", "network.public_address")
    if ha and management:
        yield from _apart(ha, management, "network.ha_address", "network.management_address")
    if management and public:
        yield from _public(management, public)


def _apart(ha: Interface, other: Interface, key: str, other_key: str) -> Iterator[Finding]:
    if ha.version != other.version:
        text = f"is IPv{ha.version}, but {other_key} is IPv{other.version}"
        yield Finding(key, text, "choose addresses of the same family")
    elif ha.network.overlaps(other.network):
        text = f"is in {ha.network}, which overlaps with {other.network} of {other_key}"
        yield Finding(key, text, "the HA addresses need a network of their own")


def _public(management: Interface, public: Interface) -> Iterator[Finding]:
    if management.ip == public.ip:
        text = f"is {public.ip}, as network.management_address is"
        advice = "the public address moves between the nodes: choose one that no machine has"
        yield Finding("network.public_address", text, advice)
    elif management.version != public.version:
        text = f"is IPv{public.version}, but the management address is IPv{management.version}"
        yield Finding("network.public_address", text, "choose addresses of the same family")
    elif public.ip not in management.network and management.network.num_addresses > 1:
        text = f"is {public.ip}, outside {management.network} of network.management_address"
        yield Finding("network.public_address", text, "both belong in the clients' network")


def _unusable(found: Interface) -> str:
    """Return why no host can have an address in its subnet; empty if one can."""
    ip, network = found.ip, found.network
    if ip.is_unspecified or ip.is_multicast or (ip.version == 4 and ip.is_reserved):
        return f"is {ip}, which no host can have"
    if ip.version == 6 and ip.is_link_local:
        return f"is {ip}, which is valid on one link only"
    if network.prefixlen >= network.max_prefixlen - 1:
        return ""
    last = ip.version == 4 and ip == network.broadcast_address
    ends = last or ip == network.network_address
    return f"is {ip}, the first or last address of {network}" if ends else ""


def _times(values: Values) -> Iterator[Finding]:
    lag, stuck = values["timers.replication_lag"], values["timers.stuck_standby"]
    if float(lag) >= float(stuck):
        text = f"is {lag:.12g} s, not below the {stuck:.12g} s of timers.stuck_standby"
        advice = "choose less, or the standby gets a new base backup before anyone is warned"
        yield Finding("timers.replication_lag", text, advice)
    idle, most = values["sessions.idle_minutes"], values["sessions.absolute_hours"]
    if float(idle) > float(most) * 60:
        text = f"is {idle} minutes, more than the {most} hours of sessions.absolute_hours"
        yield Finding("sessions.idle_minutes", text, "the shorter of the two ends a session")
