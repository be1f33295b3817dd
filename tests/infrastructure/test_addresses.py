"""Addresses: which are usable, and the findings for the others."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import IpFamily, IpSpec, Ipv4Spec, Ipv6Spec
from openvcha.infrastructure.addresses import (
    Address,
    address_of,
    check_ha_address,
    in_use,
    parse_address,
    to_ip_info,
    to_ip_spec,
)

MANAGEMENT = Address(family=IpFamily.IPV4, address="127.83.1.10", prefix=24)


def v4(
    address: str = "127.83.2.11",
    prefix: int | None = 24,
    mask: str | None = None,
    gateway: str | None = None,
    dns: tuple[str, ...] | None = None,
) -> IpSpec:
    return IpSpec(
        ip_family=IpFamily.IPV4,
        ipv4=Ipv4Spec(address=address, prefix=prefix, subnet_mask=mask),
        default_gateway=gateway,
        dns_servers=dns,
    )


def v6(address: str = "fd00::11", prefix: int = 64, gateway: str | None = None) -> IpSpec:
    return IpSpec(
        ip_family=IpFamily.IPV6,
        ipv6=Ipv6Spec(address=address, prefix=prefix),
        default_gateway=gateway,
    )


BOTH = IpSpec(
    ip_family=IpFamily.IPV4,
    ipv4=Ipv4Spec(address="127.83.2.11", prefix=24),
    ipv6=Ipv6Spec(address="fd00::1", prefix=64),
)

FINDINGS = [
    ("branch.missing", "ipv4", IpSpec(ip_family=IpFamily.IPV4)),
    ("branch.missing", "ipv6", IpSpec(ip_family=IpFamily.IPV6)),
    ("branch.other", "ipv6", BOTH),
    ("syntax", "ipv4.address", v4("127.83.2")),
    ("syntax", "ipv4.address", v4("127.83.2.011")),
    ("syntax", "ipv4.address", v4("127.83.2.11/24")),
    ("syntax", "ipv4.address", v4("")),
    ("syntax", "ipv4.address", v4("vcenter.example")),
    ("family", "ipv4.address", v4("fd00::11")),
    ("family", "ipv6.address", v6("127.83.2.11")),
    ("syntax", "ipv6.address", v6("fd00::11%eth0")),
    ("syntax", "ipv6.address", v6("::ffff:127.83.2.11")),
    ("prefix.missing", "ipv4.prefix", v4(prefix=None)),
    ("prefix.range", "ipv4.prefix", v4(prefix=0)),
    ("prefix.range", "ipv4.prefix", v4(prefix=33)),
    ("prefix.range", "ipv4.prefix", v4(prefix=-1)),
    ("prefix.range", "ipv6.prefix", v6(prefix=129)),
    ("prefix.range", "ipv6.prefix", v6(prefix=0)),
    ("mask", "ipv4.subnet_mask", v4(prefix=None, mask="0.0.0.255")),
    ("mask", "ipv4.subnet_mask", v4(prefix=None, mask="255.0.255.0")),
    ("mask", "ipv4.subnet_mask", v4(prefix=None, mask="24")),
    ("mask", "ipv4.subnet_mask", v4(prefix=None, mask="0.0.0.0")),
    ("mask", "ipv4.subnet_mask", v4(prefix=None, mask="")),
    ("disagree", "ipv4.subnet_mask", v4(prefix=24, mask="255.255.0.0")),
    ("unusable", "ipv4.address", v4("127.83.2.0")),
    ("unusable", "ipv4.address", v4("127.83.2.255")),
    ("unusable", "ipv4.address", v4("0.0.0.0")),
    ("unusable", "ipv4.address", v4("224.0.0.5")),
    ("unusable", "ipv4.address", v4("255.255.255.255")),
    ("unusable", "ipv6.address", v6("::")),
    ("unusable", "ipv6.address", v6("ff02::1")),
    ("unusable", "ipv6.address", v6("fe80::1")),
    ("unusable", "ipv6.address", v6("fd00::")),
    ("gateway.outside", "default_gateway", v4(gateway="127.83.3.1")),
    ("gateway.self", "default_gateway", v4(gateway="127.83.2.11")),
    ("unusable", "default_gateway", v4(gateway="127.83.2.255")),
    ("family", "default_gateway", v4(gateway="fd00::1")),
    ("syntax", "default_gateway", v4(gateway="router")),
    ("gateway.outside", "default_gateway", v6(gateway="fd01::1")),
    ("syntax", "dns_servers[1]", v4(dns=("127.0.0.53", "dns.example"))),
]


@pytest.mark.parametrize(("key", "field", "spec"), FINDINGS)
def test_each_finding(key: str, field: str, spec: IpSpec) -> None:
    """A single error gives exactly one finding with the path of the field."""
    address, findings = parse_address(spec, "spec.ha_ip")
    assert address is None
    assert [(finding.id, finding.args[0]) for finding in findings] == [
        (f"com.vmware.vcenter.vcha.address.{key}", f"spec.ha_ip.{field}")
    ]


def test_all_findings_at_once() -> None:
    """All that is wrong with one address is in one error."""
    spec = v4("300.0.0.1", prefix=40, mask="1.2.3.4", gateway="x", dns=("y",))
    with pytest.raises(ApiError) as caught:
        address_of(spec, "spec.failover_ip")
    assert caught.value.error_type == ErrorType.INVALID_ARGUMENT
    assert [message.args[0] for message in caught.value.messages] == [
        "spec.failover_ip.ipv4.address",
        "spec.failover_ip.ipv4.prefix",
        "spec.failover_ip.ipv4.subnet_mask",
        "spec.failover_ip.default_gateway",
        "spec.failover_ip.dns_servers[0]",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        v4(prefix=24),
        v4(prefix=None, mask="255.255.255.0"),
        v4(prefix=24, mask="255.255.255.0"),
        v4(gateway="127.83.2.1", dns=("127.0.0.53", "fd00::53")),
        v4("10.0.0.0", prefix=31),
        v4("10.0.0.1", prefix=32),
        v6(),
        v6(gateway="fd00::1"),
        v6("::1", prefix=128),
    ],
)
def test_usable(spec: IpSpec) -> None:
    """Masks and prefixes are equivalent; gateway and DNS servers are optional."""
    address, findings = parse_address(spec, "spec.ha_ip")
    assert findings == []
    assert address is not None
    assert address.gateway == spec.default_gateway


def test_canonical_form() -> None:
    """Every notation of an address gives the same result."""
    address = address_of(v6("FD00:0:0:0::0011"), "f")
    assert (address.address, address.prefix) == ("fd00::11", 64)


def ha(address: str, prefix: int = 24, family: IpFamily = IpFamily.IPV4) -> Address:
    return Address(family=family, address=address, prefix=prefix)


@pytest.mark.parametrize(
    ("address", "keys"),
    [
        (ha("127.83.2.11"), []),
        (ha("127.83.1.11"), ["ha.subnet", "outside"]),
        (ha("127.83.3.11"), ["outside"]),
        (ha("127.83.2.11", 25), ["prefix.network"]),
        (ha("127.83.2.11", 16), ["ha.subnet", "prefix.network"]),
        (ha("127.83.2.12"), ["duplicate"]),
        (ha("fd00::1", 64, IpFamily.IPV6), ["ha.family", "outside"]),
    ],
)
def test_ha_address(address: Address, keys: list[str]) -> None:
    """HA addresses: same family, other subnet, inside the HA network's, not in use."""
    findings = check_ha_address(
        address,
        "spec.ha_ip",
        management=MANAGEMENT,
        ha_subnet="127.83.2.0/24",
        others={"witness": "127.83.2.12", "active": "127.83.2.10"},
    )
    assert [finding.id.rpartition("address.")[2] for finding in findings] == keys
    assert {finding.args[0] for finding in findings} <= {"spec.ha_ip"}


def test_ha_address_without_a_known_network() -> None:
    """When the HA network is unknown, the rest is still checked."""
    findings = check_ha_address(
        ha("127.83.3.11"), "f", management=MANAGEMENT, ha_subnet=None, others={}
    )
    assert findings == []


def test_in_use_names_who() -> None:
    """The finding names the user of the address when it is known."""
    assert "vcha-old" in in_use("127.83.2.11", "spec.ha_ip", "vcha-old").default_message
    assert "127.83.2.11" in in_use("127.83.2.11", "spec.ha_ip").default_message


addresses_v4 = st.builds(
    lambda ip, prefix: (ip, prefix), st.ip_addresses(v=4), st.integers(min_value=1, max_value=32)
)
addresses_v6 = st.builds(
    lambda ip, prefix: (ip, prefix), st.ip_addresses(v=6), st.integers(min_value=1, max_value=128)
)


@given(addresses_v4)
def test_mask_and_prefix_mean_the_same(case: tuple[ipaddress.IPv4Address, int]) -> None:
    """A subnet given as mask, as prefix or as both has the same result or the same findings."""
    ip, prefix = case
    mask = str(ipaddress.ip_network((0, prefix)).netmask)
    by_prefix = parse_address(v4(str(ip), prefix), "f")
    assert parse_address(v4(str(ip), None, mask), "f") == by_prefix
    assert parse_address(v4(str(ip), prefix, mask), "f") == by_prefix


@given(addresses_v4, st.integers(min_value=0, max_value=2**32 - 1))
def test_mask_is_a_row_of_ones(case: tuple[ipaddress.IPv4Address, int], bits: int) -> None:
    """Exactly the 32 real masks are accepted."""
    ip, _ = case
    text = str(ipaddress.IPv4Address(bits))
    real = text in {str(ipaddress.ip_network((0, length)).netmask) for length in range(1, 33)}
    _, findings = parse_address(v4(str(ip), None, text), "f")
    assert any(finding.id.endswith("address.mask") for finding in findings) != real


@given(st.one_of(addresses_v4, addresses_v6), st.booleans())
def test_round_trip(
    case: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int], with_gateway: bool
) -> None:
    """A usable address survives conversion to a spec; its info has the same content."""
    ip, prefix = case
    network = ipaddress.ip_network((ip, prefix), strict=False)
    first = min(1, network.num_addresses - 1)
    gateway = str(network[first]) if with_gateway else None
    make = v4 if ip.version == 4 else v6
    address, findings = parse_address(make(str(ip), prefix, gateway=gateway), "f")
    assert (address is None) == bool(findings)
    if address is None:
        return
    assert address.ip == ip
    assert address.ip in address.network
    assert address_of(to_ip_spec(address), "f") == address
    info = to_ip_info(address)
    branch = info.ipv4 or info.ipv6
    assert branch is not None
    assert (branch.address, branch.prefix, info.gateway_ip) == (address.address, prefix, gateway)


@given(addresses_v4)
def test_edges_of_a_subnet_are_no_hosts(case: tuple[ipaddress.IPv4Address, int]) -> None:
    """The first and last address of a subnet with room for hosts are never usable."""
    ip, prefix = case
    network = ipaddress.ip_network((ip, min(prefix, 30)), strict=False)
    for edge in (network.network_address, network.broadcast_address):
        assert parse_address(v4(str(edge), network.prefixlen), "f")[0] is None


@given(st.text(max_size=40), st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.text()))
def test_any_text_is_answered(text: str, prefix: int | None, mask: str | None) -> None:
    """Any input is either an address or has findings; no other error is raised."""
    for spec in (v4(text, prefix, mask, gateway=text, dns=(text,)), v6(text, prefix or 0)):
        address, findings = parse_address(spec, "f")
        assert (address is None) == bool(findings)
