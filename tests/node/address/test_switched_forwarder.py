"""The forwarder on the switch of the loopback lab: clients of a former active are cut off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.serving import serving
from tests.support.switches import (
    HOST,
    connected,
    free_place,
    hold,
    switching,
    until_ended,
    until_refused,
)

from openvcha.infrastructure.local.switch_client import SwitchClient
from openvcha.node.address.forwarder import Forwarder
from openvcha.node.address.listening import Listener
from openvcha.node.address.state import HELD, NOBODY
from openvcha.store.address_reports import Holding

START = b"\0\0\0\x08\0\x03\0\0"
SECONDS = 60.0


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[Forwarder]:
    """Return a forwarder, with the term 5, to a server that echoes what it receives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def take(place: tuple[str, int]) -> Listener:
        return await SwitchClient(tmp_path).take(place, 5, holder="former")

    async with switching(tmp_path), serving(serve, HOST) as port:
        made = Forwarder(free_place(), (HOST, port), open_listener=take)
        yield made
        await made.release()


async def test_clients_reach_the_database(forwarder: Forwarder) -> None:
    """As through a listening socket; the end of one direction reaches the other side."""
    await forwarder.acquire()
    assert forwarder.state == HELD
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    writer.write(START)
    writer.write_eof()
    assert await reader.read(-1) == START
    writer.close()
    await writer.wait_closed()


async def test_a_later_term_ends_its_clients(forwarder: Forwarder, tmp_path: Path) -> None:
    """It learns that the address is lost, and cannot take it back."""
    await forwarder.acquire()
    place = HOST, forwarder.port
    with await connected(place) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, START)
        assert await loop.sock_recv(client, 100) == START
        await hold(tmp_path, place, 6)
        await until_ended(client)
    await asyncio.wait_for(forwarder.wait_until_lost(), SECONDS)
    assert not forwarder.held
    assert forwarder.state == NOBODY
    with pytest.raises(OSError, match="later token 6"):
        await forwarder.acquire()
    assert forwarder.state.holding is Holding.CANNOT
    assert "later token 6" in forwarder.state.detail


async def test_a_released_address_is_free_and_its_clients_are_gone(forwarder: Forwarder) -> None:
    """At once, as with a socket of its own."""
    await forwarder.acquire()
    place = HOST, forwarder.port
    with await connected(place) as client:
        await forwarder.release()
        await until_ended(client)
    await until_refused(place)
    await forwarder.acquire()
