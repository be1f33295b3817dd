"""The addresses of a first node on this machine: proposals, completion and checks. Pure."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openvcha.node.first_node.findings import Finding
from openvcha.node.first_node.netlink import MachineAddress
from openvcha.node.settings.rules import contradictions
from openvcha.node.settings.table import Value, Values

SUBJECT = "addresses"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Own:
    """An address of the node, completed from the machine; ``present``: an interface has it."""

    address: Address
    prefix: int
    interface: str
    present: bool


def proposals(addresses: Sequence[MachineAddress]) -> list[MachineAddress]:
    """Return the addresses that a node could use: of hosts, not of this machine alone."""
    return [
        each
        for each in addresses
        if not (each.address.ip.is_loopback or each.address.ip.is_link_local)
    ]


def ha_proposal(found: Sequence[MachineAddress]) -> str | None:
    """Return the address to propose for the HA network: one of the second interface.

    The first one usually leads to the clients. None if there is no second interface.
    """
    others = [each for each in found if each.interface != found[0].interface]
    return str(others[0].address.ip) if others else None


def completed(values: Values, addresses: Sequence[MachineAddress]) -> dict[str, Value]:
    """Return the settings with the prefixes and interfaces that only the machine knows."""
    found = dict(values)
    for of in ("ha", "management", "public"):
        if own := own_address(values, of, addresses):
            found[f"network.{of}_prefix"] = own.prefix
            found[f"network.{of}_interface"] = own.interface
    return found


def own_address(values: Values, of: str, addresses: Sequence[MachineAddress]) -> Own | None:
    """Return an address of the settings as the machine has it, or would; None if it is not set.

    An address that no interface has is in the network of one of them. Without any, its prefix is
    that of the settings, else it is alone, and its interface is that of the settings.
    """
    text = str(values[f"network.{of}_address"])
    if not text:
        return None
    address = ipaddress.ip_address(text)
    prefix, interface = int(values[f"network.{of}_prefix"]), str(values[f"network.{of}_interface"])
    near = [each for each in addresses if not interface or each.interface == interface]
    has = next((each for each in near if _holds(each, address)), None)
    beside = has or next((each for each in near if address in each.address.network), None)
    if beside is None:
        return Own(address, prefix or address.max_prefixlen, interface, present=False)
    length = prefix or beside.address.network.prefixlen
    return Own(address, length, beside.interface, present=has is not None)


def check_network(
    values: Values, addresses: Sequence[MachineAddress], *, loopback: bool
) -> list[Finding]:
    """Return all findings for the addresses; ``loopback`` ones are for trials only."""
    findings = [*_missing(values), *_each(values, addresses)]
    if not loopback:
        findings += _loopback(values)
    whole = contradictions(completed(values, addresses))
    findings += [
        Finding.refused(SUBJECT, f"{each.key}: {each.text}; {each.advice}")
        for each in whole
        if each.key.startswith("network.")
    ]
    return findings or [Finding.ok(SUBJECT, _shown(values, addresses))]


def _missing(values: Values) -> Iterator[Finding]:
    for of in ("ha", "public"):
        if not values[f"network.{of}_address"]:
            text = f"network.{of}_address is not set: use --{of}-address, or set it in the file"
            yield Finding.refused(SUBJECT, text)


def _each(values: Values, addresses: Sequence[MachineAddress]) -> Iterator[Finding]:
    for of in ("ha", "management", "public"):
        own = own_address(values, of, addresses)
        if own is not None and of == "public" and not own.address.is_loopback:
            yield from _moving(own, addresses)
        elif own is not None and not own.present:
            yield _absent(values, of, own, addresses)


def _moving(own: Own, addresses: Sequence[MachineAddress]) -> Iterator[Finding]:
    """Yield what is wrong with an address that an interface has only while the node leads."""
    has = next((each for each in addresses if each.address.ip == own.address), None)
    if has:
        remove = f"`ip address del {has.address} dev {has.interface}`"
        text = f"{has.interface} already has network.public_address {own.address}: remove it"
        yield Finding.refused(SUBJECT, f"{text} ({remove}); the node adds it while it leads")
    elif not own.interface:
        text = f"no interface is in the network of network.public_address {own.address}"
        yield Finding.refused(SUBJECT, f"{text}: set network.public_interface and public_prefix")


def _absent(values: Values, of: str, own: Own, addresses: Sequence[MachineAddress]) -> Finding:
    interface = str(values[f"network.{of}_interface"])
    elsewhere = [each.interface for each in addresses if _holds(each, own.address)]
    if elsewhere:
        text = f"{own.address} is on {elsewhere[0]}, not on {interface} (network.{of}_interface)"
        return Finding.refused(SUBJECT, text)
    add = f"`ip address add {own.address}/{own.prefix} dev {own.interface or 'INTERFACE'}`"
    text = f"no interface of this machine has network.{of}_address {own.address}: {add}"
    return Finding.refused(SUBJECT, text)


def _loopback(values: Values) -> Iterator[Finding]:
    for of in ("ha", "public"):
        text = str(values[f"network.{of}_address"])
        if text and ipaddress.ip_address(text).is_loopback:
            yield Finding.refused(
                SUBJECT,
                f"network.{of}_address {text} is reachable on this machine only: choose another,"
                " or use --loopback for a trial",
            )


def _holds(found: MachineAddress, address: Address) -> bool:
    """Return whether an interface has an address: a loopback interface has its whole network."""
    if found.address.ip.is_loopback and address.is_loopback:
        return address in found.address.network
    return found.address.ip == address


def _shown(values: Values, addresses: Sequence[MachineAddress]) -> str:
    parts = [
        f"{of} {own.address}/{own.prefix} on {own.interface}"
        for of in ("ha", "management", "public")
        if (own := own_address(values, of, addresses))
    ]
    return ", ".join(parts)
