"""Patroni's requests and answers, sent as soon as they are written.

Patroni 4.1 writes a request to etcd in two parts, and so an answer of its own API. Its sockets lack
TCP_NODELAY, which urllib3 would set by itself: the second part waits until the receiver has
confirmed the first, which the receiver's kernel puts off for 40 ms. A switchover makes about ten
such requests, one after the other.
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
    """Have the loaded Patroni send at once. Raises AttributeError for another Patroni."""
    etcd3, api = (import_module(name) for name in ("patroni.dcs.etcd3", "patroni.api"))
    etcd3.Etcd3.set_socket_options = sending_at_once(etcd3.Etcd3.set_socket_options)
    if not hasattr(api.RestApiHandler, "disable_nagle_algorithm"):
        raise AttributeError("Patroni answers otherwise")
    api.RestApiHandler.disable_nagle_algorithm = True


def sending_at_once(original: SetOptions) -> SetOptions:
    """Set what Patroni sets, and that nothing is held back."""

    def set_socket_options(self: Any, sock: socket.socket, socket_options: Any) -> None:
        original(self, sock, socket_options)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    return set_socket_options
