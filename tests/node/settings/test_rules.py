"""Settings that are each allowed, but not together."""

import pytest

from openvcha.node.settings.rules import contradictions, interface_of
from openvcha.node.settings.table import Value, defaults

GOOD: dict[str, Value] = {
    "network.ha_address": "192.0.2.11",
    "network.ha_prefix": 28,
    "network.management_address": "198.51.100.11",
    "network.management_prefix": 24,
    "network.public_address": "198.51.100.10",
    "network.public_prefix": 24,
}


def found(**changed: Value) -> list[tuple[str, str]]:
    """Return the findings for good settings with some changed; `__` stands for a dot."""
    changes = {key.replace("__", "."): value for key, value in changed.items()}
    return [(each.key, each.text) for each in contradictions(defaults() | GOOD | changes)]


def test_the_defaults_and_good_settings_fit() -> None:
    """Also without a management address, and for IPv6."""
    assert contradictions(defaults()) == []
    assert found() == []
    assert found(network__management_address="", network__management_prefix=0) == []
    six = {"ha": "2001:db8:1::11", "management": "2001:db8:2::11", "public": "2001:db8:2::10"}
    assert not found(
        **{f"network__{of}_address": address for of, address in six.items()},
        **{f"network__{of}_prefix": 64 for of in six},
    )


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"ports__api": 5432}, "ports.api", "as ports.postgres is"),
        ({"network__ha_prefix": 33}, "network.ha_prefix", "has 32 bits"),
        ({"network__ha_address": "192.0.2.0"}, "network.ha_address", "first or last"),
        ({"network__ha_address": "192.0.2.15"}, "network.ha_address", "first or last"),
        ({"network__ha_address": "224.0.0.1"}, "network.ha_address", "no host can have"),
        ({"network__ha_address": "198.51.100.12"}, "network.ha_address", "overlaps"),
        ({"network__ha_prefix": 1}, "network.ha_address", "overlaps"),
        (
            {"network__ha_address": "2001:db8::1", "network__ha_prefix": 64},
            "network.ha_address",
            "is IPv6, but",
        ),
        (
            {"network__public_address": "198.51.100.11"},
            "network.public_address",
            "as network.management_address is",
        ),
        ({"network__public_address": "203.0.113.10"}, "network.public_address", "outside"),
        ({"timers__replication_lag": 30.0}, "timers.replication_lag", "not below"),
        ({"sessions__absolute_hours": 1, "sessions__idle_minutes": 61}, "sessions.idle", "more"),
    ],
)
def test_a_contradiction_is_found(changes: dict[str, Value], key: str, said: str) -> None:
    """It is at the setting to change, and says what it contradicts."""
    assert any(each.startswith(key) and said in text for each, text in found(**changes))


def test_several_ports_that_collide_are_each_found() -> None:
    """With the first that has the number."""
    assert found(ports__api=2379, ports__patroni=2379) == [
        ("ports.patroni", "is 2379, as ports.etcd_client is"),
        ("ports.api", "is 2379, as ports.etcd_client is"),
    ]


def test_an_address_without_a_prefix_is_alone() -> None:
    """The machine's interface will say which it has."""
    assert str(interface_of(defaults() | GOOD | {"network.ha_prefix": 0}, "ha")) == "192.0.2.11/32"
    assert found(network__ha_prefix=0, network__public_prefix=0, network__management_prefix=0) == []
