"""Rules for the addresses of nodes. Pure: they do not use the network."""

import ipaddress
from collections.abc import Mapping

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import (
    ClusterIpFamily,
    IpFamily,
    IpInfo,
    IpSpec,
    Ipv4Info,
    Ipv4Spec,
    Ipv6Info,
    Ipv6Spec,
    LocalizableMessage,
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Address(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A validated address of a node's interface. All texts are canonical."""

    family: IpFamily
    address: str
    prefix: int
    gateway: str | None = None
    dns_servers: tuple[str, ...] = ()

    @property
    def ip(self) -> IpAddress:
        """Return the address without its prefix."""
        return ipaddress.ip_address(self.address)

    @property
    def network(self) -> IpNetwork:
        """Return the network that the address is in."""
        return ipaddress.ip_network((self.address, self.prefix), strict=False)


def address_of(spec: IpSpec, field: str) -> Address:
    """Return the validated address of a spec.

    `field` is the spec's own path, e.g. ``spec.ha_ip``. Raises ApiError INVALID_ARGUMENT with
    all findings, each naming the path of the invalid field.
    """
    address, findings = parse_address(spec, field)
    if address is None:
        raise ApiError(ErrorType.INVALID_ARGUMENT, *findings)
    return address


def parse_address(spec: IpSpec, field: str) -> tuple[Address | None, list[LocalizableMessage]]:
    """Return the address of a spec and its findings; with findings, the address is None."""
    findings: list[LocalizableMessage] = []
    parsed = _interface(spec, field, findings)
    gateway = _gateway(spec, field, parsed, findings)
    servers = _dns_servers(spec, field, findings)
    if parsed is None or findings:
        return None, findings
    ip, network = parsed
    return (
        Address(
            family=spec.ip_family,
            address=str(ip),
            prefix=network.prefixlen,
            gateway=gateway,
            dns_servers=servers,
        ),
        findings,
    )


def check_ha_address(
    address: Address,
    field: str,
    *,
    management: Address,
    ha_subnet: str | None,
    others: Mapping[str, str],
) -> list[LocalizableMessage]:
    """Return all findings for an HA address.

    `management` is the cluster's public address, `ha_subnet` the subnet of the HA network
    (None: unknown), `others` the addresses already used in the cluster, by their users.
    """
    findings = []
    same_family = address.family == management.family
    if not same_family:
        findings.append(_message("ha.family", field, address.family, management.family))
    elif address.network.overlaps(management.network):
        findings.append(_message("ha.subnet", field, address.address, str(management.network)))
    if ha_subnet is not None:
        findings += check_in_subnet(address, field, ha_subnet)
    return findings + check_unique(address, field, others)


def check_in_subnet(address: Address, field: str, subnet: str) -> list[LocalizableMessage]:
    """Return the findings for an address in a network with this subnet."""
    network = ipaddress.ip_network(subnet)
    if address.network == network:
        return []
    if address.ip in network:
        return [_message("prefix.network", field, str(address.prefix), subnet)]
    return [_message("outside", field, address.address, subnet)]


def check_unique(
    address: Address, field: str, others: Mapping[str, str]
) -> list[LocalizableMessage]:
    """Return a finding for each of `others` (user: address) with the same address."""
    return [
        _message("duplicate", field, address.address, user)
        for user, used in others.items()
        if ipaddress.ip_address(used) == address.ip
    ]


def in_use(address: str, field: str, user: str | None = None) -> LocalizableMessage:
    """Return the finding for an address in use; `user` is the name of a VM if known."""
    if user is None:
        return _message("answering", field, address)
    return _message("taken", field, address, user)


def absent(address: str, field: str, host: str) -> LocalizableMessage:
    """Return the finding for an address that the host of the node does not have."""
    return _message("absent", field, address, host)


def to_ip_info(address: Address) -> IpInfo:
    """Convert an address to the form that the API reports."""
    if address.family == IpFamily.IPV4:
        ipv4 = Ipv4Info(
            address=address.address,
            subnet_mask=str(address.network.netmask),
            prefix=address.prefix,
        )
        return IpInfo(ip_family=ClusterIpFamily.IPV4, ipv4=ipv4, gateway_ip=address.gateway)
    ipv6 = Ipv6Info(address=address.address, prefix=address.prefix)
    return IpInfo(ip_family=ClusterIpFamily.IPV6, ipv6=ipv6, gateway_ip=address.gateway)


def to_ip_spec(address: Address) -> IpSpec:
    """Convert an address to a spec: ``address_of(to_ip_spec(a), …) == a``."""
    servers = address.dns_servers or None
    if address.family == IpFamily.IPV4:
        return IpSpec(
            ip_family=IpFamily.IPV4,
            ipv4=Ipv4Spec(address=address.address, prefix=address.prefix),
            default_gateway=address.gateway,
            dns_servers=servers,
        )
    return IpSpec(
        ip_family=IpFamily.IPV6,
        ipv6=Ipv6Spec(address=address.address, prefix=address.prefix),
        default_gateway=address.gateway,
        dns_servers=servers,
    )


def _interface(
    spec: IpSpec, field: str, findings: list[LocalizableMessage]
) -> tuple[IpAddress, IpNetwork] | None:
    """Return address and subnet from the branch that `ip_family` selects."""
    branch: Ipv4Spec | Ipv6Spec | None
    other: Ipv4Spec | Ipv6Spec | None
    if spec.ip_family == IpFamily.IPV4:
        path, branch, other, other_path = f"{field}.ipv4", spec.ipv4, spec.ipv6, f"{field}.ipv6"
    else:
        path, branch, other, other_path = f"{field}.ipv6", spec.ipv6, spec.ipv4, f"{field}.ipv4"
    if other is not None:
        findings.append(_message("branch.other", other_path, spec.ip_family))
    if branch is None:
        findings.append(_message("branch.missing", path, spec.ip_family))
        return None
    ip = _parse(branch.address, f"{path}.address", spec.ip_family, findings)
    prefix = _prefix(branch, path, findings)
    if ip is None or prefix is None:
        return None
    network = ipaddress.ip_network((ip, prefix), strict=False)
    if not _usable(ip, network):
        findings.append(_message("unusable", f"{path}.address", str(ip), str(network)))
    return ip, network


def _prefix(
    branch: Ipv4Spec | Ipv6Spec, path: str, findings: list[LocalizableMessage]
) -> int | None:
    """Return the prefix length from `prefix` and `subnet_mask`."""
    longest = 32 if isinstance(branch, Ipv4Spec) else 128
    mask = branch.subnet_mask if isinstance(branch, Ipv4Spec) else None
    prefix = branch.prefix
    if prefix is None and mask is None:
        findings.append(_message("prefix.missing", f"{path}.prefix"))
        return None
    if prefix is not None and not 1 <= prefix <= longest:
        findings.append(_message("prefix.range", f"{path}.prefix", str(prefix), str(longest)))
        prefix = None
    if mask is None:
        return prefix
    bits = _mask_bits(mask)
    if bits is None:
        findings.append(_message("mask", f"{path}.subnet_mask", mask))
        return None
    if prefix is not None and prefix != bits:
        findings.append(_message("disagree", f"{path}.subnet_mask", mask, str(prefix), str(bits)))
        return None
    return bits


def _mask_bits(mask: str) -> int | None:
    """Return the prefix length of a subnet mask; None for an invalid mask."""
    try:
        value = int(ipaddress.IPv4Address(mask))
    except ValueError:
        return None
    bits = value.bit_count()
    return bits if bits and value == (2**bits - 1) << (32 - bits) else None


def _gateway(
    spec: IpSpec,
    field: str,
    parsed: tuple[IpAddress, IpNetwork] | None,
    findings: list[LocalizableMessage],
) -> str | None:
    if spec.default_gateway is None:
        return None
    path = f"{field}.default_gateway"
    gateway = _parse(spec.default_gateway, path, spec.ip_family, findings)
    if gateway is None or parsed is None:
        return None
    ip, network = parsed
    if gateway not in network:
        findings.append(_message("gateway.outside", path, str(gateway), str(network)))
    elif gateway == ip:
        findings.append(_message("gateway.self", path, str(gateway)))
    elif not _usable(gateway, network):
        findings.append(_message("unusable", path, str(gateway), str(network)))
    return str(gateway)


def _dns_servers(spec: IpSpec, field: str, findings: list[LocalizableMessage]) -> tuple[str, ...]:
    servers = []
    for index, text in enumerate(spec.dns_servers or ()):
        server = _parse(text, f"{field}.dns_servers[{index}]", None, findings)
        if server is not None:
            servers.append(str(server))
    return tuple(servers)


def _parse(
    text: str, path: str, family: IpFamily | None, findings: list[LocalizableMessage]
) -> IpAddress | None:
    """Return the address; one with a zone (``%eth0``) is invalid, since nodes cannot share it."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        findings.append(_message("syntax", path, text))
        return None
    if family is not None and ip.version != _VERSION[family]:
        findings.append(_message("family", path, text, family))
        return None
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip.ipv4_mapped):
        findings.append(_message("syntax", path, text))
        return None
    return ip


def _usable(ip: IpAddress, network: IpNetwork) -> bool:
    """Return whether a host can have the address in this subnet."""
    if ip.is_unspecified or ip.is_multicast or (ip.version == 4 and ip.is_reserved):
        return False
    if ip.version == 6 and ip.is_link_local:
        return False
    if network.prefixlen >= network.max_prefixlen - 1:
        return True
    if ip == network.network_address:
        return False
    return ip.version == 6 or ip != network.broadcast_address


_VERSION = {IpFamily.IPV4: 4, IpFamily.IPV6: 6}


def _message(key: str, *args: str) -> LocalizableMessage:
    return message(f"address.{key}", *args)


prepare(__name__)
