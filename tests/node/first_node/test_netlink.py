"""The kernel's list of addresses: as it is here, and as no kernel would send it."""

import contextlib
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvcha.node.first_node.netlink import MachineAddress, machine_addresses, parse


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def address(family: int, prefix: int, *attributes: bytes, index: int = 1) -> bytes:
    return message(20, struct.pack("=BBBBI", family, prefix, 0, 0, index) + b"".join(attributes))


def test_this_machine_has_its_loopback_address() -> None:
    """Whatever else it has."""
    found = machine_addresses()
    assert MachineAddress("lo", ipaddress.ip_interface("127.0.0.1/8")) in found
    assert all(each.interface for each in found)


def test_the_own_end_of_a_link_counts() -> None:
    """At a point-to-point link the kernel also names the peer."""
    peer, own = (socket.inet_aton(text) for text in ("192.0.2.1", "192.0.2.2"))
    data = address(socket.AF_INET, 32, attribute(1, peer), attribute(2, own))
    (found,) = parse(data)
    assert found == MachineAddress("lo", ipaddress.ip_interface("192.0.2.2/32"))


def test_what_is_no_address_is_skipped() -> None:
    """Another family, an interface that is gone, a message of another kind; then the end."""
    own = attribute(1, socket.inet_aton("192.0.2.2"))
    data = (
        address(17, 24, own)
        + address(socket.AF_INET, 24)
        + address(socket.AF_INET, 24, own, index=0x7FFFFFFF)
        + message(99, b"abcd")
        + message(3, b"\0\0\0\0")
    )
    assert list(parse(data)) == [None]


def test_an_error_of_the_kernel_is_no_empty_list() -> None:
    """Nor is a truncated list."""
    with pytest.raises(OSError, match="refuses"):
        list(parse(message(2, struct.pack("=i", -1))))
    with pytest.raises(OSError, match="truncated"):
        list(parse(message(20, b"x" * 20)[:-1]))


@given(st.binary(max_size=200), st.sampled_from([2, 3, 20]))
def test_no_bytes_break_the_parser(data: bytes, kind: int) -> None:
    """It ends with addresses or with an error that says what happened."""
    for each in (data, message(kind, data)):
        with contextlib.suppress(OSError):
            list(parse(each))
