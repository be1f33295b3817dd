"""How many clients the database accepts, and how a login is followed from outside."""

import struct
from pathlib import Path

import pytest

from openvcha.node.address.client_limit import (
    CANCEL,
    DEFAULT_MAX_CONNECTIONS,
    RESERVED_CONNECTIONS,
    SSL_REQUEST,
    Login,
    max_clients,
    max_connections,
    too_many_clients_error,
)

PLAIN = struct.pack("!ii", 80, 0x30000)
TLS_FIRST = b"\x16\x03\x01\x02\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("head", "needed"),
    [(PLAIN, 3), (struct.pack("!ii", 8, SSL_REQUEST), 5), (TLS_FIRST, 4)],
    ids=["plain", "asks for TLS", "TLS first"],
)
def test_a_log_in_is_over_with_the_answer_to_its_last_message(head: bytes, needed: int) -> None:
    """However many pieces each message arrives in."""
    login = Login(head)
    for turn in range(needed):
        if turn:
            login.client_sent()
        login.client_sent()
        assert not login.over
        login.server_sent()
        login.server_sent()
    assert login.over
    login.client_sent()
    assert login.over


def test_who_only_waits_is_not_logged_in() -> None:
    """A client that requests TLS and then sends nothing more."""
    login = Login(struct.pack("!ii", 8, SSL_REQUEST))
    for _ in range(10):
        login.server_sent()
    assert not login.over
    assert not login.cancels
    assert Login(struct.pack("!ii", 16, CANCEL)).cancels


def test_postgresql_says_itself_how_many_it_takes(tmp_path: Path) -> None:
    """The value Patroni started it with; before that the cluster's own setting counts."""
    options = tmp_path / "postmaster.opts"
    assert max_connections(options) == DEFAULT_MAX_CONNECTIONS
    options.write_text('/bin/postgres "-D" "/x" "--max_connections=500" "--max_wal_senders=10"\n')
    assert max_connections(options) == 500
    options.write_bytes(b"\xff\x00")
    assert max_connections(options) == DEFAULT_MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("connections", "descriptors", "most"),
    [
        (200, 1024, 200 - RESERVED_CONNECTIONS),
        (2000, 1024, 312),
        (2000, 8192, 2000 - RESERVED_CONNECTIONS),
        (10, 100, 1),
    ],
)
def test_places_are_kept_for_the_cluster(connections: int, descriptors: int, most: int) -> None:
    """And descriptors for both sides of each connection; the cluster always gets one."""
    assert max_clients(connections, descriptors) == most


def test_a_refusal_is_one_of_postgresql() -> None:
    """Type, length, fields, end."""
    told = too_many_clients_error()
    kind, length = struct.unpack("!ci", told[:5])
    assert (kind, length) == (b"E", len(told) - 1)
    assert b"C53300\0" in told
    assert told.endswith(b"\0\0")
