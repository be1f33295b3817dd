"""Strangers at Patroni's API, and a thief of a witness, cannot keep a node from it."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.patroni.patches.connections import (
    BACKLOG,
    MAX_WAITING,
    THREADS,
    HandshakeThread,
    guard,
)
from openvcha.node.security.certificates import KeyPair, issue, new_authority

HOST = "127.0.0.1"
LATEST = 60.0
"""Bound of what has to come, not a measure."""
HASTY = 0.2


@dataclass(frozen=True)
class Api:
    """Patroni's own server, with the certificates of a node and of a witness."""

    server: Any
    directory: Path

    @property
    def place(self) -> tuple[str, int]:
        return (HOST, self.server.server_address[1])

    def context(self, who: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        if who:
            context.load_cert_chain(self.directory / f"{who}.crt", self.directory / f"{who}.key")
        return context

    def ask(self) -> str:
        """Ask as a node does. Raise OSError where nothing answers."""
        http_ = http.client.HTTPSConnection(
            *self.place, context=self.context("node"), timeout=LATEST
        )
        with contextlib.closing(http_):
            http_.request("GET", "/")
            return http_.getresponse().read().decode()


def write(directory: Path, name: str, pair: KeyPair) -> None:
    (directory / f"{name}.crt").write_bytes(pair.certificate)
    (directory / f"{name}.key").write_bytes(pair.key)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    authority = new_authority()
    write(made, "ca", authority)
    for name in ("node", "witness"):
        write(made, name, issue(authority, name, [HOST]))
    return made


Start = Callable[..., Api]


@pytest.fixture
def start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start Patroni's server, with a node's settings; it is stopped with the test."""
    api: Any = import_module("patroni.api")
    monkeypatch.setattr(
        api.RestApiHandler, "do_GET", lambda handler: handler.write_response(200, "here")
    )
    started: list[Any] = []

    def begin(entrance: HandshakeThread | None = None) -> Api:
        class Server(api.RestApiServer):  # type: ignore[misc]  # it has no types
            """A subclass, so that what is patched into it goes away with the test."""

        guard(Server, entrance)
        files = {"certfile": "node.crt", "keyfile": "node.key", "cafile": "ca.crt"}
        server = Server(
            SimpleNamespace(version="4"),
            {
                "listen": f"{HOST}:0",
                "verify_client": "required",
                "thread_pool_size": THREADS,
                "request_queue_size": BACKLOG,
                **{name: str(directory / file) for name, file in files.items()},
            },
        )
        server.start()
        started.append(server)
        return Api(server, directory)

    yield begin
    for server in started:
        ended = threading.Thread(target=server.shutdown, daemon=True)
        ended.start()
        ended.join(LATEST)
        assert not ended.is_alive(), "Patroni cannot end"
        server.server_close()


def silent(api: Api) -> socket.socket:
    return socket.create_connection(api.place)


def half(api: Api) -> socket.socket:
    """Begin a TLS record and never finish it."""
    made = silent(api)
    made.sendall(b"\x16\x03\x01\x02\x00")
    return made


def without_a_certificate(api: Api) -> socket.socket:
    return api.context(None).wrap_socket(silent(api), server_hostname=HOST)


def of_the_witness(api: Api) -> socket.socket:
    """Connect with the witness's certificate, and say nothing."""
    return api.context("witness").wrap_socket(silent(api), server_hostname=HOST)


def in_the_middle_of_a_request(api: Api) -> socket.socket:
    made = of_the_witness(api)
    made.sendall(b"GET / HTTP/1.0\r\nX: ")
    return made


@pytest.mark.parametrize(
    ("connect", "number"),
    [
        (silent, 100),
        (half, 100),
        (without_a_certificate, 50),
        (of_the_witness, 50),
        (in_the_middle_of_a_request, 50),
        (silent, MAX_WAITING + 100),
    ],
)
def test_a_node_is_answered(
    start: Start, connect: Callable[[Api], socket.socket], number: int
) -> None:
    """Patroni can also stop, which the fixture checks."""
    api = start(HandshakeThread(seconds=2 * LATEST))
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(contextlib.closing(connect(api)))
        assert api.ask() == "here"


def test_who_says_nothing_is_let_go(start: Start) -> None:
    """This frees a descriptor."""
    api = start(HandshakeThread(seconds=HASTY))
    with contextlib.closing(silent(api)) as stranger:
        stranger.settimeout(LATEST)
        assert stranger.recv(1) == b""


def test_one_too_many_costs_the_oldest_its_place(start: Start) -> None:
    """Not the newest, which may be a node."""
    api = start(HandshakeThread(seconds=2 * LATEST, most=2))
    with contextlib.ExitStack() as stack:
        first, *_ = [stack.enter_context(contextlib.closing(silent(api))) for _ in range(3)]
        first.settimeout(LATEST)
        assert first.recv(1) == b""
        assert api.ask() == "here"


def test_many_questions_of_one_node_are_all_answered(start: Start) -> None:
    """Those beyond its share wait for their turn."""
    api = start()
    said: list[str] = []
    asking = [threading.Thread(target=lambda: said.append(api.ask())) for _ in range(24)]
    for one in asking:
        one.start()
    for one in asking:
        one.join(LATEST)
    assert said == ["here"] * 24
