"""The supervisor tells systemd that the node is ready, and that it goes on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.identity import Identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.process.lock import NodeRuns, lock_node
from openvcha.node.service_manager.notify import ALIVE, READY, ServiceManager
from openvcha.node.supervisor.supervisor import Supervisor

pytestmark = pytest.mark.looptime
WATCHED = {"NOTIFY_SOCKET": "@name", "WATCHDOG_USEC": "30000000"}


class SupervisorThatWaits:
    """A supervisor whose only attempt waits for the end; what it told is in ``told``."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        save_identity(
            directory,
            Identity(
                cluster_id="c",
                cluster_name="c",
                member="own",
                kind="witness",
                vm="vm-1",
                name="own",
                ha_address="127.1.1.1",
                etcd_initial_cluster={"own": "https://127.1.1.1:2380"},
            ),
        )
        patch.setattr(Supervisor, "_attempt", self._attempt)
        engines: Any = object()
        self.told: list[str] = []
        self.stop = asyncio.Event()
        manager = ServiceManager(WATCHED, send=lambda _, text: self.told.append(text))
        self.supervisor = Supervisor(directory, engines=engines, manager=manager)

    async def _attempt(self, stop: asyncio.Event) -> bool:
        await stop.wait()
        return True


async def test_a_node_is_ready_before_its_parts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base backup takes hours: systemd must not take it for a start that fails."""
    node = SupervisorThatWaits(tmp_path, monkeypatch)
    running = asyncio.create_task(node.supervisor.run(node.stop))
    await asyncio.sleep(25)
    assert node.told == [READY, ALIVE, ALIVE, ALIVE]
    node.stop.set()
    await running
    await asyncio.sleep(100)
    assert node.told == [READY, ALIVE, ALIVE, ALIVE]


async def test_a_second_supervisor_is_never_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one holds the node's lock."""
    node = SupervisorThatWaits(tmp_path, monkeypatch)
    with lock_node(Layout(tmp_path).lock), pytest.raises(NodeRuns):
        await node.supervisor.run(node.stop)
    assert node.told == []
