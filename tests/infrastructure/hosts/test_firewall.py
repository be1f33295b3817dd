"""Which ports a firewall's rules may close: in doubt, all."""

import pytest

from openvcha.infrastructure.hosts.firewall import closed_ports

PORTS = (2379, 5432)


def nft(*rules: str, policy: str = "accept") -> list[str]:
    return [
        "table inet filter {",
        "\tchain input {",
        f"\t\ttype filter hook input priority filter; policy {policy};",
        *(f"\t\t{rule}" for rule in rules),
        "\t}",
        "\tchain forward {",
        "\t\ttype filter hook forward priority filter; policy drop;",
        "\t\ttcp dport 2379 drop",
        "\t}",
        "}",
    ]


@pytest.mark.parametrize(
    ("rules", "policy", "closed"),
    [
        ([], "accept", ()),
        ([], "drop", PORTS),
        (["ct state invalid drop", "ct state established,related accept"], "accept", ()),
        (["ct state vmap { invalid : drop, established : accept }"], "accept", ()),
        (["udp dport 2379 drop", "icmp type echo-request drop"], "accept", ()),
        (["tcp dport { 22, 2379, 5432 } accept"], "drop", ()),
        (["tcp dport 2379 accept"], "drop", (5432,)),
        (["tcp dport 2000-3000 accept"], "drop", (5432,)),
        (["tcp dport 22 accept", 'iifname "lo" accept'], "drop", PORTS),
        (["tcp dport 5432 reject"], "accept", (5432,)),
        (["tcp dport 5432 reject", "tcp dport 5432 accept"], "accept", (5432,)),
        (["tcp dport 5432 accept", "drop"], "accept", (2379,)),
        (["tcp dport @ours accept"], "drop", PORTS),
        (["tcp dport postgresql accept"], "drop", PORTS),
        (["ip saddr 198.18.2.0/24 accept"], "drop", PORTS),
    ],
)
def test_nftables(rules: list[str], policy: str, closed: tuple[int, ...]) -> None:
    """Other chains than the input's say nothing of what arrives."""
    assert closed_ports(nft(*rules, policy=policy), [], PORTS) == closed


@pytest.mark.parametrize(
    ("lines", "closed"),
    [
        ([":INPUT ACCEPT [0:0]"], ()),
        ([":INPUT DROP [0:0]"], PORTS),
        ([":INPUT DROP [0:0]", "-A INPUT -p tcp -m tcp --dport 2379 -j ACCEPT"], (5432,)),
        (
            [
                ":INPUT DROP [0:0]",
                "-A INPUT -p tcp -m multiport --dports 22,2379,5000:6000 -j ACCEPT",
            ],
            (),
        ),
        ([":INPUT ACCEPT [0:0]", "-A INPUT -m conntrack --ctstate INVALID -j DROP"], ()),
        ([":INPUT ACCEPT [0:0]", "-A INPUT -p tcp -j mine", "-A mine -j REJECT"], PORTS),
        ([":INPUT ACCEPT [0:0]", "-A FORWARD -j DROP", "-A OUTPUT -j DROP"], ()),
    ],
)
def test_iptables(lines: list[str], closed: tuple[int, ...]) -> None:
    """As `iptables-save` prints it; with the chains to which the input leads."""
    assert closed_ports([], ["*filter", *lines, "COMMIT"], PORTS) == closed


def test_both_must_let_a_port_through() -> None:
    """The kernel asks one after the other."""
    dropped = ["*filter", ":INPUT DROP [0:0]", "COMMIT"]
    assert closed_ports(nft("tcp dport { 2379, 5432 } accept"), dropped, PORTS) == PORTS
