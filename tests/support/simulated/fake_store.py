"""A thief with a witness's files who answers at its address, and records all that he is shown.

He lets every client in, claims to be healthy, and returns what he copied from the store.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openvcha.node.layout import Layout

TOKEN = "his.1"


@dataclass
class FakeStore:
    """``paths`` are the requests; ``shown`` is the part of an account that came with them.

    ``copied`` are key-value pairs of the store, in its gateway's form, by key.
    """

    paths: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    copied: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, path: str, token: str | None, body: dict[str, Any]) -> dict[str, Any]:
        """Return the response of an etcd that has a quorum."""
        self.paths.append(path)
        if token:
            self.shown.append(token)
        if path.startswith("/health"):
            return {"health": "true", "reason": ""}
        if path == "/version":
            return {"etcdserver": "3.5.1", "etcdcluster": "3.5.0"}
        if path.endswith("/auth/authenticate"):
            self.shown.append(f"{body['name']}:{body['password']}")
            return {"header": {}, "token": TOKEN}
        if path.endswith("/kv/range"):
            found = self.copied.get(body["key"])
            return {"header": {"revision": "99"}, "kvs": [found] if found else [], "count": "1"}
        if path.endswith("/cluster/member/list"):
            return {"header": {}, "members": []}
        return {"header": {"revision": "99"}, "succeeded": True, "leader": "1"}


def _handler(store: FakeStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def log_message(self, *_: object) -> None:
            """Log nothing to the terminal."""

        def do_GET(self) -> None:
            self.give(store.answer(self.path, self.headers.get("authorization"), {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
            if self.path.endswith("/auth/authenticate") or self.headers.get("authorization"):
                self.give(store.answer(self.path, self.headers.get("authorization"), body))
                return
            store.paths.append(self.path)
            refused = "etcdserver: user name is empty"
            self.give({"error": refused, "code": 3, "message": refused}, 400)

        def give(self, fields: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


class _Server(ThreadingHTTPServer):
    """A server that ends with all its connections: one that is kept open would go on answering."""

    daemon_threads = False  # closing waits for the handlers

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(place, handler)
        self._accepted: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted, client = super().get_request()
        self._accepted.append(accepted)
        return accepted, client

    def server_close(self) -> None:
        for accepted in self._accepted:
            # Below TLS, whose objects belong to the handlers' threads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(accepted, socket.SHUT_RDWR)
        super().server_close()


@contextmanager
def posing_as(stolen: Layout, address: str, port: int) -> Iterator[FakeStore]:
    """Serve at a witness's address with its stolen files, until the context ends.

    Nothing of it is left then, nor is any connection.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(stolen.ca))
    context.load_cert_chain(stolen.certificate, stolen.key)
    store = FakeStore()
    server = _Server((address, port), _handler(store))
    # A handshake in the accepting thread would let one silent client block all others.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    serving = threading.Thread(
        target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}
    )
    serving.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
