"""The addresses of a first node, against those of its machine."""

import ipaddress

import pytest

from openvcha.node.first_node.findings import Verdict
from openvcha.node.first_node.netlink import MachineAddress
from openvcha.node.first_node.network import (
    check_network,
    completed,
    ha_proposal,
    proposals,
)
from openvcha.node.settings.table import Value, defaults


def has(interface: str, text: str) -> MachineAddress:
    return MachineAddress(interface, ipaddress.ip_interface(text))


MACHINE = (
    has("lo", "127.0.0.1/8"),
    has("eth0", "198.51.100.11/24"),
    has("eth1", "192.0.2.11/28"),
    has("eth1", "fe80::1/64"),
)
GOOD: dict[str, Value] = {
    "network.ha_address": "192.0.2.11",
    "network.public_address": "198.51.100.10",
}


def refusals(changed: dict[str, Value] | None = None, *, loopback: bool = False) -> list[str]:
    found = check_network(defaults() | GOOD | (changed or {}), MACHINE, loopback=loopback)
    return [each.text for each in found if each.verdict is Verdict.REFUSED]


def test_the_machine_completes_the_addresses() -> None:
    """With the prefix and the interface that have them; what a person has set stays."""
    found = completed(defaults() | GOOD | {"network.public_prefix": 25}, MACHINE)
    assert found["network.ha_prefix"] == 28
    assert found["network.ha_interface"] == "eth1"
    assert found["network.public_prefix"] == 25
    assert found["network.management_interface"] == ""
    assert refusals() == []


def test_the_second_interface_is_proposed_for_the_ha_network() -> None:
    """The first one usually leads to the clients."""
    assert ha_proposal(proposals(MACHINE)) == "192.0.2.11"
    assert ha_proposal(proposals(MACHINE[:2])) is None
    assert ha_proposal([]) is None


def test_only_addresses_of_hosts_are_proposed() -> None:
    """Neither loopback nor link-local ones."""
    assert [str(each.address) for each in proposals(MACHINE)] == [
        "198.51.100.11/24",
        "192.0.2.11/28",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"network.ha_address": ""}, "network.ha_address is not set"),
        ({"network.ha_address": "192.0.2.12"}, "ip address add 192.0.2.12/28 dev eth1"),
        ({"network.ha_address": "203.0.113.1"}, "dev INTERFACE"),
        ({"network.ha_interface": "eth0"}, "is on eth1, not on eth0"),
        ({"network.public_address": "192.0.2.12"}, "overlaps"),
        ({"network.public_address": "198.51.100.11"}, "ip address del 198.51.100.11/24 dev eth0"),
        ({"network.public_address": "203.0.113.1"}, "set network.public_interface"),
        ({"network.ha_address": "127.83.2.11"}, "is reachable on this machine only"),
        ({"network.management_address": "198.51.100.10"}, "as network.management_address is"),
    ],
)
def test_an_address_that_does_not_fit_is_refused(changed: dict[str, Value], said: str) -> None:
    """With what to do."""
    assert any(said in text for text in refusals(changed)), refusals(changed)


def test_a_trial_may_use_loopback_addresses() -> None:
    """The loopback interface has its whole network, so the prefixes must tell them apart."""
    trial: dict[str, Value] = {
        "network.ha_address": "127.83.2.11",
        "network.public_address": "127.83.1.10",
    }
    assert any("overlaps" in text for text in refusals(trial, loopback=True))
    trial |= {"network.ha_prefix": 24, "network.public_prefix": 24}
    assert refusals(trial, loopback=True) == []
