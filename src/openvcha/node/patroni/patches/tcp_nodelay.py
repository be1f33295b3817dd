"""TCP_NODELAY on Patroni's sockets.

Patroni 4.1 writes a request to etcd, and a response of its own API, in two parts. Without
TCP_NODELAY, which urllib3 would set by default, the second part waits for the acknowledgement of
the first, which the receiver's kernel delays by 40 ms. A switchover makes about ten such requests
in sequence.
"""

import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any

SetOptions = Callable[[Any, socket.socket, Any], None]

REPLACES = {
    "patroni.dcs.etcd3:Etcd3.set_socket_options": "5827c5fb75454e26",
    "patroni.api:RestApiHandler.disable_nagle_algorithm": "60a33e6cf5151f2d",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    etcd3, api = (import_module(name) for name in ("patroni.dcs.etcd3", "patroni.api"))
    etcd3.Etcd3.set_socket_options = with_tcp_nodelay(etcd3.Etcd3.set_socket_options)
    if not hasattr(api.RestApiHandler, "disable_nagle_algorithm"):
        raise AttributeError("Patroni answers otherwise")
    api.RestApiHandler.disable_nagle_algorithm = True


def with_tcp_nodelay(original: SetOptions) -> SetOptions:
    """Set Patroni's socket options, and TCP_NODELAY."""

    def set_socket_options(self: Any, sock: socket.socket, socket_options: Any) -> None:
        original(self, sock, socket_options)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    return set_socket_options
