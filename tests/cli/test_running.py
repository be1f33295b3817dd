"""Running a node that has still to join its cluster."""

import asyncio
import socket
from pathlib import Path

import pytest

from openvcha.cli import running
from openvcha.node.service_manager.notify import READY


async def test_a_node_that_joins_is_ready_for_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster may be busy for minutes: systemd must not start the node anew meanwhile."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.setblocking(False)
        told: list[bytes] = []

        async def bootstrap(directory: Path, stop: asyncio.Event) -> bool:
            """Refuse to join, as the cluster may."""
            assert (directory, stop.is_set()) == (tmp_path, False)
            told.append(manager.recv(100))
            return False

        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setattr("openvcha.daemon.bootstrap.bootstrap", bootstrap)
        await running._bootstrap(tmp_path, asyncio.Event())
    assert told == [READY.encode()]
