"""The public address in its own thread: it works while its owner's event loop does not."""

import asyncio
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from openvcha.node.address.forwarder import Forwarder
from openvcha.node.address.thread import ForwarderThread

HOST = "127.0.0.1"
SECONDS = 60.0


@pytest.fixture
def echo() -> Iterator[int]:
    """Yield the port of a server, in a thread, that echoes what it receives."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


async def test_clients_wait_for_nothing_that_its_owner_does(echo: int) -> None:
    """Here the owner blocks on the client, so only a separate thread can make progress."""
    async with ForwarderThread(Forwarder((HOST, 0), (HOST, echo))) as forwarder:
        await forwarder.acquire()
        with socket.create_connection((HOST, forwarder.port), SECONDS) as client:
            client.sendall(b"8 bytes.")
            assert client.recv(8, socket.MSG_WAITALL) == b"8 bytes."
            await forwarder.release()
            assert client.recv(1) == b""
        assert not forwarder.held


async def test_who_ends_it_gives_the_address_up() -> None:
    """Whatever its owner forgets."""
    async with ForwarderThread(Forwarder((HOST, 0), (HOST, 1))) as forwarder:
        await forwarder.acquire()
        port = forwarder.port
    assert not forwarder.held
    with socket.create_server((HOST, port)):
        pass


async def test_an_address_that_is_taken_is_told_to_its_owner() -> None:
    """The owner retries."""
    with socket.create_server((HOST, 0)) as other:
        taken = (HOST, other.getsockname()[1])
        async with ForwarderThread(Forwarder(taken, (HOST, 1))) as forwarder:
            with pytest.raises(OSError, match="in use"):
                await forwarder.acquire()
            assert not forwarder.held


@pytest.mark.parametrize("turns", range(4))
async def test_whoever_is_canceled_while_it_is_taken_can_give_it_up(turns: int) -> None:
    """Leadership that ends in its first moment."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
    async with ForwarderThread(Forwarder((HOST, port), (HOST, 1))) as forwarder:
        taking = asyncio.create_task(forwarder.acquire())
        for _ in range(turns):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait([taking])
        await forwarder.release()
        with socket.create_server((HOST, port)):
            pass
