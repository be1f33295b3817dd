"""Who has logged in, by the titles of PostgreSQL's processes."""

import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from openvcha.node.address.client_limit import HEAD_BYTES, SSL_REQUEST
from openvcha.node.address.sessions import logged_in_ports


def connected(place: tuple[str, int]) -> socket.socket:
    """Connect to a PostgreSQL, over TLS if it has that, and send no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection(place)
    connection.sendall(struct.pack("!ii", HEAD_BYTES, SSL_REQUEST))
    has_tls = connection.recv(1) == b"S"
    return context.wrap_socket(connection) if has_tls else connection


def process(proc: Path, number: int, title: bytes) -> None:
    (proc / str(number)).mkdir()
    (proc / str(number) / "cmdline").write_bytes(title)


@pytest.mark.parametrize(
    ("title", "ports"),
    [
        (b"postgres: app app 127.0.0.1(40112) idle", {40112}),
        (b"postgres: main: app app 127.0.0.1(40112) idle in transaction\0\0", {40112}),
        (b"postgres: app app ::1(40112) SELECT waiting", {40112}),
        (b"postgres: app app 127.0.0.1(40112) startup waiting", {40112}),
        (b"postgres: app app 127.0.0.1(40112) authentication", set()),
        (b"postgres: app app 127.0.0.1(40112) initializing", set()),
        (b"postgres: a(1) idle\n(2) idle app 127.0.0.1(40112) authentication", set()),
        (b"postgres: app app [local] idle", set()),
        (b"postgres: checkpointer ", set()),
        (b"/usr/lib/postgresql/15/bin/postgres -D (40112) idle", set()),
        (b"", set()),
    ],
)
def test_a_title_shows_whether_its_client_has_logged_in(
    tmp_path: Path, title: bytes, ports: set[int]
) -> None:
    """Whatever names the client has chosen."""
    process(tmp_path, 7, title)
    (tmp_path / "meminfo").touch()
    (tmp_path / "8").mkdir()
    assert logged_in_ports(tmp_path) == ports


def test_nobody_else_s_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any account can call its process so."""
    process(tmp_path, 7, b"postgres: app app 127.0.0.1(40112) idle")
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert logged_in_ports(tmp_path) == set()


@pytest.mark.engines
def test_postgresql_shows_it(lab: Any) -> None:
    """A client that stops in the middle of its login has not logged in."""
    node = lab.node("titled", 14, {"titled": 14})
    node.start()
    lab.until(node.writable)
    start = struct.pack("!i", 0x30000) + b"user\0app\0database\0app\0\0"
    place = node.identity.ha_address, node.identity.ports.postgres
    with connected(place) as stuck, node.connect() as connection:
        stuck.sendall(struct.pack("!i", len(start) + 4) + start)
        assert stuck.recv(1) == b"R"
        with socket.socket(fileno=os.dup(connection.fileno())) as own:
            logged_in = own.getsockname()[1]
        until(lambda: logged_in in logged_in_ports(), 60)
        assert stuck.getsockname()[1] not in logged_in_ports()
