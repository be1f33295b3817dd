"""Any process may die during a redeploy: the task goes on, and no row is lost."""

import os
import signal

import pytest
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.processes import pid_of
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.writer import Writer

from openvcha.node.process.process_tree import kill_tree

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"


def begin(running: RunningLab, name: str) -> str:
    """Start a redeploy and wait until it has created something that could be left behind."""
    task = str(running.admin.redeploy({"placement": {"name": name, "folder": running.folder}}))
    running.until(lambda: name in {vm.name for vm in running.vms()})
    return task


async def assert_repaired(running: RunningLab, task: str, name: str, writer: Writer) -> None:
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    running.until_healthy()
    assert running.name_of("PASSIVE") == name
    assert len(await cluster.members(running)) == 3
    assert len(running.vms()) == 3
    assert writer.missing() == set()


async def test_the_service_dies_in_the_middle(degraded: RunningLab, writer: Writer) -> None:
    """The process that carries the task out is killed; its successor continues."""
    active = degraded.directory(degraded.name_of("ACTIVE"))
    task = begin(degraded, "after-service")
    os.kill(pid_of(active, "service"), signal.SIGKILL)
    await assert_repaired(degraded, task, "after-service", writer)


@pytest.mark.soak
async def test_the_new_node_dies_in_the_middle(degraded: RunningLab, writer: Writer) -> None:
    """The half-made node loses its power; the step starts it again, or undoes it and says so."""
    task = begin(degraded, "after-power-loss")
    new = degraded.directory("after-power-loss")
    degraded.until((new / "run" / "supervisor.pid").exists)
    supervisor = int((new / "run" / "supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    info = degraded.admin.finished(task)
    if info["status"] == "SUCCEEDED":
        await assert_repaired(degraded, task, "after-power-loss", writer)
        return
    assert "after-power-loss" not in {vm.name for vm in degraded.vms()}
    assert len(await cluster.members(degraded)) == 2
    degraded.repair("after-undo")
    assert writer.missing() == set()


@pytest.mark.soak
async def test_the_active_dies_in_the_middle(degraded: RunningLab, writer: Writer) -> None:
    """No failover is possible: the active comes back, and the task with it."""
    name = degraded.name_of("ACTIVE")
    task = begin(degraded, "after-active")
    # At once, in this process: by the time a command has started, the new node may be in sync.
    kill_tree(degraded.directory(name))
    degraded.vcha("lab", "up")
    assert degraded.name_of("ACTIVE") == name
    await assert_repaired(degraded, task, "after-active", writer)
