"""The API's distributor on the switch: connections passed on twice end with their worker."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.switches import (
    connected,
    free_place,
    hold,
    switching,
    until_connections,
    until_ended,
)
from tests.support.waiting import until_async

from openvcha.api_server.server.listening import Listener
from openvcha.daemon.api_processes.distributor import Distributor
from openvcha.infrastructure.local.switch_client import SwitchClient

WORKER = """
import select, sys, time
from pathlib import Path
from openvcha.api_server.server.passed_connections import PassedConnections
from openvcha.daemon.api_processes.worker_socket import register

passed, kept = PassedConnections(register(Path(sys.argv[1]), 1), ("", 0)), []
while True:
    select.select([passed], [], [])
    kept.append(passed.accept()[0])
    kept[-1].sendall(b"served")
"""
SECONDS = 60.0


@pytest.fixture
async def distributor(tmp_path: Path) -> AsyncIterator[Distributor]:
    """Return a distributor for one worker, whose socket exists."""

    async def take(address: str, port: int) -> Listener:
        return await SwitchClient(tmp_path).take((address, port), 5, holder="former", drain=5)

    made = Distributor(1, take)
    async with switching(tmp_path):
        running = asyncio.create_task(made.run(tmp_path / "workers"))
        await until_async((tmp_path / "workers").exists, SECONDS, pause=0.01)
        yield made
        made.close()
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker as a process of its own, killed at the end."""
    command = (sys.executable, "-c", WORKER, str(folder / "workers"))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_client_is_served_by_the_worker(distributor: Distributor, tmp_path: Path) -> None:
    """The distributor closes its own descriptor, and the connection goes on."""
    place = free_place()
    async with working(tmp_path):
        await distributor.start(*place)
        with await connected(place) as client:
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"served"
            await until_connections(tmp_path, 1)
        await until_connections(tmp_path, 1)  # the worker has not closed its end


async def test_the_clients_of_a_killed_worker_see_the_end(
    distributor: Distributor, tmp_path: Path
) -> None:
    """The switch has a descriptor of each, so the kernel ends none of them."""
    place = free_place()
    async with working(tmp_path) as worker:
        await distributor.start(*place)
        with await connected(place) as client:
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"served"
            worker.kill()
            await until_ended(client)


async def test_a_later_term_ends_it_and_it_says_so(
    distributor: Distributor, tmp_path: Path
) -> None:
    """Its service may not know yet that another node leads."""
    place = free_place()
    async with working(tmp_path):
        await distributor.start(*place)
        await hold(tmp_path, place, 6)
        assert await asyncio.wait_for(distributor.wait(), SECONDS)
        assert not distributor.running
        with pytest.raises(OSError, match="later token 6"):
            await distributor.start(*place)
