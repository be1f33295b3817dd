"""The active dies while two votes need each other: its peers power it on, and the task ends.

Nobody calls `lab up` here. Once the active stayed off until a person came: the others knew of no
task, as the store in which it stands had stopped.
"""

import asyncio
import time

import pytest
from tests.e2e.conftest import HEALTHY_SECONDS, TASK_SECONDS, RunningLab
from tests.e2e.writer import Writer

from openvcha.node.etcd import peer_url
from openvcha.node.http import ask
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.processes import kill_tree, read_process
from openvcha.node.tls import NodeTls
from openvcha.serving.peers import voters_in

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"


async def until_two_vote(layout: Layout) -> None:
    """Look at the members as this node's etcd tells its peers, until just two of them vote."""
    identity, tls = load_identity(layout.root), NodeTls(layout)
    deadline = time.monotonic() + TASK_SECONDS
    while True:
        page = await ask(peer_url(identity), "/members", tls(), 2.0)
        voters = voters_in((page or b"").partition(b"\r\n\r\n")[2]) or []
        if len(voters) == 2:
            return
        assert time.monotonic() < deadline, voters
        await asyncio.sleep(0.005)


async def lose_active_while_two_vote(running: RunningLab, name: str) -> None:
    """Kill all of the active at once, and wait until somebody has started it again."""
    layout = running.layout(name)
    await until_two_vote(layout)
    before = int(layout.supervisor_pid.read_text())
    kill_tree(layout.root)
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        now = int(layout.supervisor_pid.read_text() or before)
        if now != before and read_process(now):
            return
        assert time.monotonic() < deadline, "nobody has powered the active on"
        await asyncio.sleep(0.1)


def validate(running: RunningLab, task: str, writer: Writer) -> None:
    info = running.admin.finished(task)
    assert info["status"] == "SUCCEEDED", info
    running.until(running.healthy)
    rows = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > rows + 20)
    assert writer.missing() == set()
    # Else a node that a person switches off some day would not stay off.
    running.until(lambda: not any(running.layout(vm.name).relied.exists() for vm in running.vms()))


async def test_the_active_dies_in_a_redeploy_when_the_lost_vote_is_taken(
    degraded: RunningLab, writer: Writer
) -> None:
    """The witness is left, or the new node that votes not yet."""
    name = degraded.name_of("ACTIVE")
    spec = {"placement": {"name": "after-votes", "folder": degraded.folder}}
    task = str(degraded.admin.redeploy(spec))
    await lose_active_while_two_vote(degraded, name)
    validate(degraded, task, writer)
    assert degraded.name_of("ACTIVE") == name
