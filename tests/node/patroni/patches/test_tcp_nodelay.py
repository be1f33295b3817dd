"""Patroni's writes are sent at once: its sockets have TCP_NODELAY."""

import socket
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.patroni.patches.tcp_nodelay import install

HOST = "127.0.0.1"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return a listening port and an unpatched Patroni; patches are undone after the test."""
    connection = import_module("urllib3.util.connection")
    monkeypatch.setattr(connection, "create_connection", connection.create_connection)
    store, handler = _classes()
    monkeypatch.setattr(store, "set_socket_options", store.set_socket_options)
    monkeypatch.setattr(handler, "disable_nagle_algorithm", False)
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


def _classes() -> tuple[Any, Any]:
    names = ("patroni.dcs.etcd3", "patroni.api")
    etcd3, api = (import_module(name) for name in names)
    return etcd3.Etcd3, api.RestApiHandler


def held_back(port: int) -> bool:
    """Return whether a connection of Patroni's etcd client delays small packets."""
    store: Any = object.__new__(_classes()[0])
    store._ttl, store._loop_wait = 20, 1
    store._retry = SimpleNamespace(deadline=3)
    store.get_etcd_client({"host": HOST, "port": port}, lambda *_: store)
    connect = import_module("urllib3.util.connection").create_connection
    with connect((HOST, port)) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return not made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_request_to_etcd_goes_out_at_once(place: int) -> None:
    """And Patroni's own socket options stay."""
    assert held_back(place)
    install()
    assert not held_back(place)


def answers_held_back() -> bool:
    """Return whether a connection that Patroni's own API accepted delays small packets."""
    with (
        socket.create_server((HOST, 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            handler: Any = object.__new__(_classes()[1])
            handler.request = accepted
            handler.setup()
            held = not accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            handler.finish()
            return held


@pytest.mark.usefixtures("place")
def test_an_answer_goes_out_at_once() -> None:
    """From Patroni's API, which a standby about to take over and this project query."""
    assert answers_held_back()
    install()
    assert not answers_held_back()


def test_a_patroni_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch would have no effect."""
    monkeypatch.delattr(_classes()[0], "set_socket_options")
    monkeypatch.delattr(import_module("patroni.dcs.etcd").AbstractEtcd, "set_socket_options")
    with pytest.raises(AttributeError):
        install()
