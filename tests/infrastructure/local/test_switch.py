"""The switch: an address goes to the latest term, and no connection outlives its holder's."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.support.switches import (
    HOST,
    Holder,
    connected,
    free_place,
    hold,
    switching,
    until_connections,
    until_ended,
    until_refused,
)

from openvcha.infrastructure.local.switch import MAX_LINKS
from openvcha.infrastructure.local.switch_client import (
    PlaceRefused,
    SwitchClient,
    SwitchUnavailable,
)
from openvcha.infrastructure.local.switch_links import ANSWER_SECONDS
from openvcha.infrastructure.local.switch_places import MAX_PLACES
from openvcha.infrastructure.local.switch_protocol import socket_path
from openvcha.system.network.passed_sockets import close_copy
from openvcha.system.network.private_sockets import connect_socket


@pytest.fixture
async def root(tmp_path: Path) -> AsyncIterator[Path]:
    """Return the root of an infrastructure whose switch runs."""
    async with switching(tmp_path):
        yield tmp_path


async def received(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 60)


async def test_the_holder_gets_the_connections(root: Path) -> None:
    """As from a socket of its own; the peer is the client."""
    holder = await hold(root, free_place(), 5)
    client, served = await holder.connection()
    with client, served:
        assert served.getpeername() == client.getsockname()
        served.sendall(b"hello")
        assert await received(client) == b"hello"
        client.sendall(b"answer")
        assert await received(served) == b"answer"


async def test_a_later_term_takes_the_address_and_ends_the_connections(root: Path) -> None:
    """The former holder does nothing for it: it may be frozen."""
    place = free_place()
    former = await hold(root, place, 5)
    client, served = await former.connection()
    with client, served:
        latter = await hold(root, place, 6)
        await until_ended(client)
        assert await received(served) == b""
    with pytest.raises(EOFError):
        await former.accept()
    client, served = await latter.connection()
    with client, served:
        served.sendall(b"from the latter")
        assert await received(client) == b"from the latter"


async def test_an_earlier_term_is_refused(root: Path) -> None:
    """A former active that thaws still believes that it leads."""
    place = free_place()
    latter = await hold(root, place, 6)
    client, served = await latter.connection()
    with client, served:
        with pytest.raises(PlaceRefused, match="later token 6"):
            await hold(root, place, 5)
        served.sendall(b"goes on")
        assert await received(client) == b"goes on"


async def test_an_earlier_term_is_refused_while_nobody_holds_the_address(root: Path) -> None:
    """The new active may be restarting."""
    place = free_place()
    (await hold(root, place, 6)).vanish()
    await until_refused(place)
    with pytest.raises(PlaceRefused):
        await hold(root, place, 5)
    await hold(root, place, 6)  # itself, after its restart


async def test_the_next_switch_knows_the_latest_term(tmp_path: Path) -> None:
    """A switch that is killed forgets nothing that matters."""
    place = free_place()
    async with switching(tmp_path):
        await hold(tmp_path, place, 6)
    async with switching(tmp_path):
        with pytest.raises(PlaceRefused):
            await hold(tmp_path, place, 5)
        await hold(tmp_path, place, 7)


async def test_an_administrator_may_begin_a_new_sequence(root: Path) -> None:
    """A node that was made stand-alone counts on from what its own store knows."""
    place = free_place()
    (await hold(root, place, 6)).vanish()
    await SwitchClient(root).forget()
    await hold(root, place, 1)


async def test_a_new_sequence_needs_no_running_switch(tmp_path: Path) -> None:
    """The next one starts with it."""
    place = free_place()
    async with switching(tmp_path):
        await hold(tmp_path, place, 6)
    await SwitchClient(tmp_path).forget()
    async with switching(tmp_path):
        await hold(tmp_path, place, 1)


async def test_nobody_listens_once_the_holder_has_ended(root: Path) -> None:
    """And its connections end: the switch has descriptors of them, the kernel ends none."""
    holder = await hold(root, free_place(), 5)
    client, served = await holder.connection()
    close_copy(served)  # as the kernel does for a process that is killed
    with client:
        holder.vanish()
        await until_ended(client)
    await until_refused(holder.place)


async def test_a_client_sees_at_once_that_its_connection_is_closed(root: Path) -> None:
    """Although the switch has a descriptor of it, which it closes as well."""
    holder = await hold(root, free_place(), 5)
    client, served = await holder.connection()
    with client:
        served.close()
        await until_ended(client)
    await until_connections(root, 0)


async def test_a_connection_that_the_client_resets_is_forgotten(root: Path) -> None:
    """The switch keeps no descriptor of it, whenever its holder closes its own."""
    holder = await hold(root, free_place(), 5)
    client, served = await holder.connection()
    with served:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await until_connections(root, 0)


async def test_who_gives_the_address_up_may_end_its_requests(root: Path) -> None:
    """The API answers them that it is stopping; no new connection arrives."""
    holder = await hold(root, free_place(), 5, drain=10)
    client, served = await holder.connection()
    with client, served:
        holder.listener.close()
        await until_refused(holder.place)
        served.sendall(b"the last answer")
        assert await received(client) == b"the last answer"
        served.close()
        await until_ended(client)


async def test_who_gives_the_address_up_has_limited_time(root: Path) -> None:
    """It may freeze just then."""
    holder = await hold(root, free_place(), 5, drain=0.05)
    client, served = await holder.connection()
    with client, served:
        holder.listener.close()
        await until_ended(client)


async def test_who_answers_that_it_has_lost_the_address_may_end_its_requests(root: Path) -> None:
    """As the API of a former active does, which is not frozen."""
    place = free_place()
    former = await hold(root, place, 5, drain=10)
    client, served = await former.connection()
    with client, served:
        latter = await hold(root, place, 6)
        with pytest.raises(EOFError):
            await former.accept()
        former.listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                await received(client)
        served.sendall(b"the last answer")
        assert await received(client) == b"the last answer"
    client, served = await latter.connection()
    client.close()
    served.close()


async def test_who_does_not_answer_that_it_has_lost_the_address_is_cut_off(root: Path) -> None:
    """A frozen API, whose clients would wait for as long as it may end its requests."""
    place = free_place()
    former = await hold(root, place, 5, drain=10)
    client, served = await former.connection()
    with client, served:
        await hold(root, place, 6)
        began = asyncio.get_running_loop().time()
        await until_ended(client)
        assert asyncio.get_running_loop().time() - began < 10


async def test_only_the_connections_of_an_ended_worker_end(root: Path) -> None:
    """The holder has passed them on to other processes."""
    holder = await hold(root, free_place(), 5)
    clients = []
    for process in (101, 102):
        client, served = await holder.connection()
        holder.listener.assign(process)
        close_copy(served)
        clients.append(client)
    holder.listener.cut(101)
    with clients[0], clients[1]:
        await until_ended(clients[0])
        await until_connections(root, 1)
        holder.listener.cut(102)
        await until_ended(clients[1])


async def test_connections_that_a_holder_does_not_receive_reach_the_next(root: Path) -> None:
    """A frozen holder's queue is limited; the rest wait in the backlog."""
    place = free_place()
    await hold(root, place, 5)
    clients = [await connected(place) for _ in range(400)]
    latter = await hold(root, place, 6)
    served = await latter.accept()
    for one in (*clients, served):
        one.close()


async def test_an_address_that_another_program_has_is_refused_with_the_reason(root: Path) -> None:
    """As it was for a node that bound it itself."""
    with socket.create_server((HOST, 0)) as other, pytest.raises(PlaceRefused, match="in use"):
        await hold(root, (HOST, other.getsockname()[1]), 5)


async def test_a_program_takes_one_place_only(root: Path) -> None:
    """Its link stands for it."""
    holder = await hold(root, free_place(), 5)
    with pytest.raises(OSError, match="taken a place already"):
        await _take_again(holder, root)


async def _take_again(holder: Holder, root: Path) -> None:
    client = SwitchClient(root)
    client._connect = lambda: holder.listener._channel  # type: ignore[method-assign]
    await client.take(free_place(), 9, holder="greedy")


async def test_the_number_of_places_is_limited(root: Path) -> None:
    """What it remembers is bounded."""
    for number in range(MAX_PLACES):
        (await hold(root, (f"127.0.0.{number + 2}", free_place()[1]), 5)).vanish()
    with pytest.raises(PlaceRefused, match="not supported"):
        await hold(root, free_place(), 5)


@pytest.mark.parametrize("packet", [b"?", b"{}", b'{"type":"take"}', b"\xff" * 5000])
async def test_garbage_ends_its_own_link_only(root: Path, packet: bytes) -> None:
    """Whatever a program of the same account sends."""
    holder = await hold(root, free_place(), 5)
    with connect_socket(socket_path(root), socket.SOCK_SEQPACKET) as channel:
        channel.send(packet)
        await until_ended(channel)
    client, served = await holder.connection()
    client.close()
    served.close()


async def test_a_flood_of_links_takes_the_address_from_nobody(root: Path) -> None:
    """The number of links is limited."""
    holder = await hold(root, free_place(), 5)
    with ExitStack() as flood:
        for _ in range(MAX_LINKS):
            one = connect_socket(socket_path(root), socket.SOCK_SEQPACKET)
            last = flood.enter_context(one)
        await until_ended(last)
        client, served = await holder.connection()
        client.close()
        served.close()


async def test_a_switch_that_nobody_needs_ends(tmp_path: Path) -> None:
    """Whatever becomes of its lab."""
    async with switching(tmp_path, idle=0.05) as switch:
        holder = await hold(tmp_path, free_place(), 5)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.create_task(switch.ended.wait())), 0.3)
        assert not switch.ended.is_set()
        holder.vanish()
        await asyncio.wait_for(switch.ended.wait(), 60)


async def test_who_holds_what_is_shown(root: Path) -> None:
    """`vcha lab status` shows it."""
    place = free_place()
    holder = await hold(root, place, 5)
    client, served = await holder.connection()
    with client, served:
        (held,) = await SwitchClient(root).held()
        assert (held.holder, held.token, held.connections) == ("holder 5", 5, 1)
        assert (held.place.address, held.place.port) == place


async def test_without_a_switch_that_is_the_reason(tmp_path: Path) -> None:
    """The API starts none: the service has done so before it."""
    with pytest.raises(SwitchUnavailable, match="does not run"):
        await SwitchClient(tmp_path).take(free_place(), 1, holder="early")
