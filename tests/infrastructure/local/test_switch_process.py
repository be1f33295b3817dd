"""The switch as a process of its own: started on demand, found again, and ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.switches import (
    DEADLINE,
    connected,
    free_place,
    free_places,
    held,
    hold,
    switching,
    until_ended,
    until_refused,
    vanish_all,
)
from tests.support.waiting import until_async

from openvcha.infrastructure.local.switch_client import SwitchClient, SwitchUnavailable
from openvcha.infrastructure.local.switch_protocol import socket_path
from openvcha.infrastructure.local.switch_start import COMMAND, start_switch
from openvcha.system.network.private_sockets import connect_socket, require_own_user

FROZEN = """
import asyncio, sys
from pathlib import Path
from openvcha.infrastructure.local.switch_client import SwitchClient

async def serve():
    client = SwitchClient(Path(sys.argv[1]))
    listener = await client.take(("127.0.0.1", int(sys.argv[2])), 5, holder="frozen")
    loop, kept, ended = asyncio.get_running_loop(), [], asyncio.Event()
    def accept():
        try:
            kept.append(listener.accept()[0])
            kept[-1].sendall(b"served")
        except EOFError:
            ended.set()
    loop.add_reader(listener, accept)
    print("holds", flush=True)
    await ended.wait()
    try:
        await client.take(("127.0.0.1", int(sys.argv[2])), 5, holder="thawed")
    except OSError as error:
        print(error, flush=True)

asyncio.run(serve())
"""


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[SwitchClient]:
    """Return a client that starts the switch, which ends with the test."""
    made = SwitchClient(tmp_path, start_switch)
    yield made
    vanish_all()
    await made.end()


def pid(root: Path) -> int:
    with connect_socket(socket_path(root), socket.SOCK_SEQPACKET) as channel:
        return require_own_user(channel)


async def test_it_is_started_by_whoever_needs_it(client: SwitchClient, tmp_path: Path) -> None:
    """It is nobody's child, and belongs to no node."""
    place = free_place()
    listener = await client.take(place, 5, holder="first")
    client_socket, served = await held(listener, place).connection()
    with client_socket, served:
        served.sendall(b"served")
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client_socket, 100) == b"served"
    assert _command(pid(tmp_path)) == (*COMMAND, str(tmp_path))
    assert socket_path(tmp_path).stat().st_mode & 0o777 == 0o600


def _command(process: int) -> tuple[str, ...]:
    words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return tuple(map(os.fsdecode, words[:-1]))


async def test_there_is_one_however_many_need_it_first(client: SwitchClient) -> None:
    """Both programs of a node, and both nodes."""
    places = free_places(3)
    holders = await asyncio.gather(*(client.take(place, 5, holder="each") for place in places))
    assert len(await client.held()) == len(places)
    for place, listener in zip(places, holders, strict=True):
        held(listener, place)


async def test_who_holds_the_address_starts_another_one_after_its_crash(
    client: SwitchClient, tmp_path: Path
) -> None:
    """The sessions end with it: no later holder could end them."""
    place = free_place()
    holder = held(await client.take(place, 5, holder="before"), place)
    one, served = await holder.connection()
    with one, served:
        process = pid(tmp_path)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(EOFError):
            await holder.accept()
    await until_async(lambda: not _runs(process), DEADLINE, pause=0.01)
    await until_refused(place)
    again = held(await client.take(place, 5, holder="after"), place)
    one, served = await again.connection()
    one.close()
    served.close()


async def test_one_that_hangs_is_killed_with_its_lab(client: SwitchClient, tmp_path: Path) -> None:
    """An orderly end leaves no process behind."""
    held(await client.take(place := free_place(), 5, holder="first"), place)
    process = pid(tmp_path)
    os.kill(process, signal.SIGSTOP)
    await client.end()
    await until_async(lambda: not _runs(process), DEADLINE, pause=0.01)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_one_that_hangs_is_a_reason_and_not_a_hang(
    client: SwitchClient, tmp_path: Path
) -> None:
    """Whoever asks it retries."""
    held(await client.take(place := free_place(), 5, holder="first"), place)
    os.kill(pid(tmp_path), signal.SIGSTOP)
    with pytest.raises(SwitchUnavailable, match="not replied"):
        await client.held()


async def test_a_frozen_holder_loses_the_address_and_its_clients(tmp_path: Path) -> None:
    """This is what the switch is for. Thawed, it is told, and cannot take the address back."""
    place = free_place()
    async with switching(tmp_path):
        frozen = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FROZEN, str(tmp_path), str(place[1]),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert frozen.stdout is not None
            assert await frozen.stdout.readline() == b"holds\n"
            loop = asyncio.get_running_loop()
            with await connected(place) as one, await connected(place) as late:
                assert await loop.sock_recv(one, 100) == b"served"
                assert await loop.sock_recv(late, 100) == b"served"
                frozen.send_signal(signal.SIGSTOP)
                with await connected(place) as unserved:
                    latter = await hold(tmp_path, place, 6)
                    for each in (one, late, unserved):
                        await until_ended(each)
            accepted, served = await latter.connection()
            accepted.close()
            served.close()
            frozen.send_signal(signal.SIGCONT)
            assert b"later token 6" in await frozen.stdout.readline()
        finally:
            with contextlib.suppress(ProcessLookupError):
                frozen.kill()
            await frozen.wait()
