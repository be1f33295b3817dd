"""Where a host is reached, as a person writes it."""

import pytest

from openvcha.infrastructure.hosts.address import HostAddress, UnusableAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h2", HostAddress("root", "h2")),
        ("ops@h2.example.net:2222", HostAddress("ops", "h2.example.net", 2222)),
        ("198.18.1.12", HostAddress("root", "198.18.1.12")),
        ("198.18.1.12:22", HostAddress("root", "198.18.1.12")),
        ("2001:db8::12", HostAddress("root", "2001:db8::12")),
        ("ops@2001:db8::12", HostAddress("ops", "2001:db8::12")),
        ("ops@[2001:db8::12]:2222", HostAddress("ops", "2001:db8::12", 2222)),
        ("[2001:db8::12]", HostAddress("root", "2001:db8::12")),
    ],
)
def test_an_address_is_understood(text: str, address: HostAddress) -> None:
    """It is written back in a form that is understood again."""
    assert parse_address(text, "root") == address
    assert parse_address(str(address), "nobody") == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "@h2", "a b@h2", "h2:0", "h2:65536", "h2:", "h2:x", "-oProxyCommand=x", "h2/x"),
        *("[h2]:22", "[]", "h2\n", "$(id)", "a@b@c", "[2001:db8::12", "ops@", "2001:db8::zz"),
    ],
)
def test_what_names_no_host_is_refused(text: str) -> None:
    """Above all what a program would take for an option or a command."""
    with pytest.raises(UnusableAddress, match="HOST"):
        parse_address(text, "root")
