"""The switch of a lab, when another account of the machine finds its socket, or poses as it."""

import asyncio
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.switches import free_place, hold, switching

from openvcha.infrastructure.local.switch_client import SwitchClient, SwitchUnavailable
from openvcha.infrastructure.local.switch_protocol import socket_path

ACCOUNT = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be another account too: run these tests as root"
)
THIEF = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as thief:
    thief.settimeout(60)
    try:
        thief.connect(sys.argv[1])
        thief.send(sys.argv[3].encode())
        print(thief.recv(1 << 16))
    except OSError as error:
        print(type(error).__name__)
"""
IMPOSTOR = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as switch:
    switch.bind(sys.argv[1])
    switch.listen()
    print("ready", flush=True)
    sys.stdin.read()
"""
TAKE = '{"type":"take","place":{"address":"127.0.0.1","port":%d},"token":99,"holder":"thief"}'


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every account may enter, unlike a lab's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
async def root(place: Path) -> AsyncIterator[Path]:
    """Return the folder of a running switch."""
    async with switching(place):
        yield place


async def test_another_account_takes_no_address(root: Path) -> None:
    """Neither past the permissions of the socket nor past the check of its account."""
    port = free_place()
    await hold(root, port, 5)
    for mode in (0o600, 0o777):
        socket_path(root).chmod(mode)
        assert await _ask(root, TAKE % port[1]) in {
            "PermissionError",
            "b''",
            "BrokenPipeError",
            "ConnectionResetError",
        }
        (held,) = await SwitchClient(root).held()
        assert held.token == 5


async def test_another_account_learns_and_ends_nothing(root: Path) -> None:
    """Who holds what, a forgotten token, and the end of the switch are the account's own too."""
    port = free_place()
    await hold(root, port, 5)
    socket_path(root).chmod(0o777)
    for request in ("show", "forget", "quit"):
        reply = await _ask(root, f'{{"type":"{request}"}}')
        assert reply in {"b''", "ConnectionResetError", "BrokenPipeError"}
    assert len(await SwitchClient(root).held()) == 1
    with pytest.raises(OSError, match="later token 5"):
        await hold(root, port, 4)


async def _ask(root: Path, request: str) -> str:
    """Send a request as the other account; return what it gets."""
    command = (sys.executable, "-c", THIEF, str(socket_path(root)), str(ACCOUNT.pw_uid), request)
    thief = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(thief.communicate(), 60)
    return out.decode().strip()


@contextmanager
def _impostor(root: Path) -> Iterator[None]:
    command = (sys.executable, "-c", IMPOSTOR, str(socket_path(root)), str(ACCOUNT.pw_uid))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()


async def test_a_node_asks_no_other_account_for_the_address(place: Path) -> None:
    """It would get connections from whoever posed as the switch."""
    with _impostor(place):
        with pytest.raises(SwitchUnavailable, match="belongs to user"):
            await SwitchClient(place).take(free_place(), 5, holder="node")
        await SwitchClient(place).end()  # and it ends no process of theirs
