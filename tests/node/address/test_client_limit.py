"""How many clients the database accepts, and how a login is followed from outside."""

import struct
from pathlib import Path

import pytest

from openvcha.node.address.client_limit import (
    AUTHENTICATION_SECONDS,
    CANCEL,
    DEFAULT_MAX_CONNECTIONS,
    GSS_REQUEST,
    HEAD_BYTES,
    LOGIN_LIMIT_SECONDS,
    RESERVED_CONNECTIONS,
    SSL_REQUEST,
    Login,
    max_clients,
    max_connections,
    too_many_clients_error,
)
from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.settings import local_settings

POSTGRES = Postgres(Path("/x"), (15, 4), has_tls=True, source="system")
PLAIN = struct.pack("!ii", 80, 0x30000)
REQUEST = struct.pack("!ii", HEAD_BYTES, SSL_REQUEST)
TLS_FIRST = b"\x16\x03\x01\x02\x00\x01\x00\x01"
RECORD = b"\x16\x03\x03\x00\x02ok"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


VERSION = message(b"v", struct.pack("!ii", 0, 0))
SASL = message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
CONTINUE = message(b"R", struct.pack("!i", 11) + b"r=x,s=y,i=4096")
OK = message(b"R", struct.pack("!i", 0))


def send(login: Login, data: bytes, step: int) -> None:
    """Have the server send data in pieces of ``step`` bytes."""
    for begin in range(0, len(data), step):
        login.server_sent(data[begin : begin + step])


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(
    ("head", "refused"),
    [(PLAIN, b""), (REQUEST, b"N"), (struct.pack("!ii", 8, GSS_REQUEST), b"NN")],
    ids=["plain", "without TLS", "without GSS and TLS"],
)
def test_a_login_is_over_when_postgresql_confirms_it(
    head: bytes, refused: bytes, step: int
) -> None:
    """However many pieces its messages arrive in."""
    login = Login(head)
    send(login, refused + VERSION + SASL + CONTINUE, step)
    assert not login.is_confirmed
    send(login, OK + b"Z\0\0\0\x05I", step)
    assert login.is_confirmed


@pytest.mark.parametrize("handshakes", range(8))
def test_no_number_of_messages_confirms_a_login(handshakes: int) -> None:
    """A handshake of TLS takes as many round trips as the client wants."""
    for head, accepted in ((REQUEST, b"S"), (TLS_FIRST, b"")):
        login = Login(head)
        for answer in (accepted, *[RECORD] * handshakes, OK):
            login.server_sent(answer)
        assert not login.is_confirmed


def test_an_error_confirms_nothing() -> None:
    """Whatever its text contains: a client chooses the name that PostgreSQL quotes."""
    login = Login(PLAIN)
    send(login, message(b"E", OK + OK), 1000)
    assert not login.is_confirmed
    assert not login.cancels
    assert Login(struct.pack("!ii", 16, CANCEL)).cancels


@pytest.mark.parametrize("answer", [b"R" + b"\xff" * 8, b"R" + b"\0" * 8, b"Sx", b"\0"])
def test_what_is_no_message_confirms_nothing(answer: bytes) -> None:
    """Nor does what follows it."""
    login = Login(PLAIN)
    for sent in (answer, OK, OK):
        login.server_sent(sent)
    assert not login.is_confirmed


def test_postgresql_has_ended_each_login_before_the_limit() -> None:
    """It begins to count anew once it has read the start message."""
    assert local_settings(Layout(Path("/x")), POSTGRES)["authentication_timeout"] == "15s"
    assert LOGIN_LIMIT_SECONDS > 2 * AUTHENTICATION_SECONDS


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
