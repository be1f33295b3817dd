"""The setting of the public address's interface: what it may be."""

from typing import Any

import msgspec
import pytest

from openvcha.node.public_interface import PublicInterface


def read(**settings: Any) -> PublicInterface:
    """Read the setting as from `node.json`."""
    return msgspec.convert(settings, PublicInterface)


def test_the_interface_is_enough() -> None:
    """All else has a default."""
    found = read(interface="eth0.100")
    assert (found.prefix, found.lifetime, found.clients) == (None, 6, ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"interface": ""},
        {"interface": "eth0/../x"},
        {"interface": "a" * 16},
        {"prefix": 0},
        {"prefix": 129},
        {"lifetime": 1},
        {"lifetime": 11},
        {"clients": ["192.0.2.1/24"]},
        {"clients": ["all"]},
        {"clients": ["fe80::%eth0 trust/64"]},
        {"clients": ["192.0.2.0/24"] * 65},
    ],
)
def test_anything_else_is_refused(wrong: dict[str, Any]) -> None:
    """A node with it would not start, or would let in whom nobody meant."""
    read(interface="eth0", clients=["192.0.2.0/24", "2001:db8::/32", "192.0.2.7"])
    with pytest.raises(msgspec.ValidationError):
        read(**({"interface": "eth0"} | wrong))
