"""ARP and neighbor discovery: what is sent, and which frames say that another machine has it."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvcha.node.address.interface import arp, ndp
from openvcha.node.address.interface.packets import _INSTRUCTION, Address, _filter

OWN, OTHER = bytes.fromhex("02005e000001"), bytes.fromhex("02005e000002")
V4, V6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
ACCEPTED = 2048


def run_filter(program: bytes, frame: bytes) -> bool:
    """Return whether the kernel would pass a frame: it runs such programs in this way."""
    steps = list(_INSTRUCTION.iter_unpack(program))
    at, value = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x06:
            return bool(operand)
        if code == 0x15:
            at += if_true if value == operand else if_false
            continue
        size = 4 if code == 0x20 else 1
        if operand + size > len(frame):
            return False
        value = int.from_bytes(frame[operand : operand + size])


def claimant(frame: bytes, address: Address) -> bytes | None:
    """Return who claims the address, from the point of view of OWN."""
    if isinstance(address, IPv4Address):
        return arp.claimant(frame, OWN, address)
    return ndp.claimant(frame, OWN, address)


def announcements(mac: bytes, address: Address) -> tuple[bytes, ...]:
    """Return the frames with which a machine announces an address."""
    if isinstance(address, IPv4Address):
        return arp.announcements(mac, address)
    return ndp.announcements(mac, address)


def test_an_arp_probe_is_that_of_rfc_5227() -> None:
    """Broadcast, from no address: nobody's table changes."""
    frame = arp.probe(OWN, V4)
    assert frame.hex(" ", -4) == (
        "ffffffff ffff0200 5e000001 08060001 08000604 00010200 5e000001 00000000 00000000 0000c000"
        " 020a"
    )


def test_both_kinds_of_announcement_are_sent() -> None:
    """A request and a reply, each from the address to itself."""
    request, reply = arp.announcements(OWN, V4)
    assert [frame[20:22] for frame in (request, reply)] == [b"\0\1", b"\0\2"]
    assert all(frame[28:32] == frame[38:42] == V4.packed for frame in (request, reply))
    assert all(frame[:6] == b"\xff" * 6 and frame[22:28] == OWN for frame in (request, reply))


def test_a_neighbor_solicitation_is_that_of_duplicate_detection() -> None:
    """To the group of the address, from no address, with a correct checksum."""
    frame = ndp.probe(OWN, V6)
    assert frame[:6] == bytes.fromhex("3333ff000010")
    source, destination = frame[22:38], frame[38:54]
    assert source == bytes(16)
    assert IPv6Address(destination) == IPv6Address("ff02::1:ff00:10")
    assert frame[20:22] == b"\x3a\xff"
    assert (frame[54], frame[62:78]) == (135, V6.packed)
    assert ndp.checksum(source, destination, frame[54:]) == 0


def test_an_unsolicited_advertisement_overrides_what_neighbors_know() -> None:
    """To all nodes, with the override flag alone and our MAC."""
    (frame,) = ndp.announcements(OWN, V6)
    assert frame[:6] == bytes.fromhex("333300000001")
    assert frame[22:38] == V6.packed
    assert struct.unpack_from("!BBxxI", frame, 54) == (136, 0, 0x20000000)
    assert frame[78:] == b"\2\1" + OWN
    assert ndp.checksum(frame[22:38], frame[38:54], frame[54:]) == 0


@pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
def test_another_machine_that_announces_it_has_it(address: Address) -> None:
    """Our own announcements say nothing, nor do those of another address."""
    other = IPv4Address("192.0.2.11") if isinstance(address, IPv4Address) else V6 + 1
    for frame in announcements(OTHER, address):
        assert claimant(frame, address) == OTHER
        assert claimant(frame, other) is None
    assert [claimant(frame, address) for frame in announcements(OWN, address)].count(None)


@pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
def test_who_only_asks_does_not_have_it(address: Address) -> None:
    """Two that ask at the same time would refuse each other; the leader key decides."""
    ask = arp.probe(OTHER, V4) if isinstance(address, IPv4Address) else ndp.probe(OTHER, V6)
    assert claimant(ask, address) is None


def test_a_reply_to_an_arp_probe_says_who_has_it() -> None:
    """The kernel of the holder answers to our MAC, with our empty address."""
    reply = arp.probe(OTHER, V4)[:20] + b"\0\2" + OTHER + V4.packed + OWN + bytes(4)
    assert arp.claimant(reply, OWN, V4) == OTHER


def test_an_advertisement_without_a_mac_is_that_of_its_sender() -> None:
    """The option is missing in some answers."""
    (whole,) = ndp.announcements(OTHER, V6)
    message = bytearray(whole[54:78])
    message[2:4] = bytes(2)
    message[2:4] = ndp.checksum(whole[22:38], whole[38:54], bytes(message)).to_bytes(2)
    frame = whole[:18] + len(message).to_bytes(2) + whole[20:54] + bytes(message)
    assert ndp.claimant(frame, OWN, V6) == OTHER


@pytest.mark.parametrize("at", range(12, 78))
def test_a_damaged_advertisement_is_none(at: int) -> None:
    """Checksum, lengths and the hop limit: it may have come from anywhere."""
    (frame,) = ndp.announcements(OTHER, V6)
    unused = {*range(14, 18)}  # traffic class and flow label
    if at not in unused:
        damaged = frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1 :]
        assert ndp.claimant(damaged, OWN, V6) is None


@given(frame=st.binary(max_size=200), cut=st.integers(0, 90))
def test_no_frame_raises(frame: bytes, cut: int) -> None:
    """Whatever a stranger sends, and wherever it ends."""
    for address in (V4, V6):
        claimant(frame, address)
        for known in announcements(OTHER, address):
            claimant(known[:cut] + frame, address)
            claimant(known[:cut], address)


@given(options=st.binary(max_size=64))
def test_no_options_raise(options: bytes) -> None:
    """An option of no length would go on for ever."""
    assert ndp._announced_mac(options) is None or len(options) >= 8
    assert ndp._announced_mac(b"\1\0" + options) is None


@pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
def test_the_kernel_passes_only_frames_about_the_address(address: Address) -> None:
    """The filter and the parser agree."""
    program = _filter(address)
    other: Address = IPv4Address("192.0.2.11") if isinstance(address, IPv4Address) else V6 + 1
    assert all(run_filter(program, frame) for frame in announcements(OTHER, address))
    assert not any(run_filter(program, frame) for frame in announcements(OTHER, other))
    assert not run_filter(program, arp.probe(OTHER, V4))
    assert not run_filter(program, ndp.probe(OTHER, V6))
