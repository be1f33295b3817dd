"""The socket between a node's own programs, when another account of the machine finds it."""

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.attackers.other_account import assert_not_answered, impostor
from tests.support.waiting import until_async

from openvcha.daemon.api_processes.local_socket import connect
from openvcha.daemon.api_processes.orders import ApiLink, Orders
from openvcha.daemon.api_processes.worker_socket import accept_workers, read_number, register
from openvcha.system.network.private_sockets import UntrustedPeerError, listen

LATEST = 60.0
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be another account too: run these tests as root"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every account may enter, unlike a node's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "api.sock"


@pytest.fixture
async def accepted(place: Path) -> AsyncIterator[list[str]]:
    """Return what the service accepts from a client."""
    reasons: list[str] = []
    link = ApiLink(place, lambda serve: Orders(serve=serve), reasons.extend)
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(LATEST):
        while not place.exists():  # noqa: ASYNC110, ASYNC240 - no event says so
            await asyncio.sleep(0.01)
    yield reasons
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_another_account_is_told_nothing_and_not_heard(
    place: Path, accepted: list[str]
) -> None:
    """Even where the file's permissions let it connect."""
    await assert_not_answered(place)
    assert accepted == []


async def test_another_account_is_no_worker_of_the_api(place: Path) -> None:
    """It would get the connections of the users, with their passwords."""
    watched: list[socket.socket] = []
    accepting = asyncio.create_task(accept_workers(place, watched.append))
    await until_async(place.exists, LATEST, pause=0.01)
    await assert_not_answered(place)
    with register(place, 1):
        await until_async(lambda: bool(watched), LATEST, pause=0.01)
    assert [read_number(channel) for channel in watched] == [1]
    watched[0].close()
    accepting.cancel()
    await asyncio.wait([accepting])


async def test_another_account_gives_no_worker_connections(place: Path) -> None:
    """One that created the socket first."""
    async with impostor(place):
        with pytest.raises(UntrustedPeerError):
            register(place, 1)


async def test_another_account_is_obeyed_by_no_api(place: Path) -> None:
    """One that created the socket first must not be able to order the API to stop serving."""
    async with impostor(place):
        with pytest.raises(UntrustedPeerError):
            await connect(place)


def test_the_socket_is_made_for_nobody_else(place: Path) -> None:
    """Whatever the process's umask is."""
    before = os.umask(0)
    try:
        with listen(place):
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
    finally:
        os.umask(before)
