"""What a node tells systemd: that it is ready, and at intervals that it goes on."""

import asyncio
import socket
from pathlib import Path

import pytest

from openvcha.node.service_manager.notify import ALIVE, READY, ServiceManager, send

NAMED = {"NOTIFY_SOCKET": "/run/systemd/notify"}
WATCHED = {**NAMED, "WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "7"}


class Told:
    """Records what is told, with the time by the loop's clock."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, str]] = []

    def __call__(self, address: str, text: str) -> None:
        self.told.append((asyncio.get_running_loop().time(), address, text))


@pytest.mark.looptime
async def test_a_node_is_ready_and_then_goes_on_until_it_ends() -> None:
    """Three times in each timeout: one lost message ends nothing."""
    told = Told()
    start = asyncio.get_running_loop().time()
    async with ServiceManager(WATCHED, pid=7, send=told).informed():
        await asyncio.sleep(150)
    await asyncio.sleep(600)
    seconds = [(round(at - start), text) for at, _, text in told.told]
    assert seconds == [(0, READY), (0, ALIVE), (60, ALIVE), (120, ALIVE)]
    assert {address for _, address, _ in told.told} == {NAMED["NOTIFY_SOCKET"]}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, []),
        ({"WATCHDOG_USEC": "180000000"}, []),
        (NAMED, [READY]),
        ({**WATCHED, "WATCHDOG_PID": "8"}, [READY]),
        ({**WATCHED, "WATCHDOG_USEC": "soon"}, [READY]),
        ({**WATCHED, "WATCHDOG_USEC": "0"}, [READY]),
    ],
)
@pytest.mark.looptime
async def test_nobody_is_told_what_he_does_not_wait_for(
    environment: dict[str, str], said: list[str]
) -> None:
    """Outside a unit, without a watchdog, and where another process is watched."""
    told = Told()
    async with ServiceManager(environment, pid=7, send=told).informed():
        await asyncio.sleep(1000)
    assert [text for _, _, text in told.told] == said


@pytest.mark.parametrize("abstract", [False, True])
def test_a_message_arrives(tmp_path: Path, abstract: bool) -> None:
    """At a path, or at a name outside the file system."""
    name = f"@{tmp_path}/abstract" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name[1:]}" if abstract else name)
        manager.settimeout(60)
        send(name, READY)
        assert manager.recv(100) == READY.encode()


def test_a_service_manager_that_is_gone_or_deaf_ends_no_node(tmp_path: Path) -> None:
    """Nothing is raised, and nothing blocks once its queue is full."""
    name = str(tmp_path / "notify")
    send(name, READY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        for _ in range(5000):
            send(name, ALIVE)
