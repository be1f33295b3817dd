"""A node is lost with its host, is replaced, and comes back: it stays out, and is deleted."""

import asyncio
import signal

import pytest
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.processes import signal_node
from tests.support.lab.running_lab import VCHA, RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.api.structures import HostConnectionState
from openvcha.lab.access import lab_infrastructure
from openvcha.node.identity import load_identity
from openvcha.node.process.process_tree import find_tree, is_postgres

pytestmark = [pytest.mark.engines, pytest.mark.soak]

NEW = "elsewhere"
EXPELLED_SECONDS = 120.0
OWED_SECONDS = 120.0


def connect(running: RunningLab, host: str, state: HostConnectionState) -> None:
    """Let the infrastructure of the nodes reach a host, or not."""
    asyncio.run(lab_infrastructure(running.lab).set_host(host, connection_state=state))


def warnings(running: RunningLab) -> list[str]:
    """Return the ids of the health warnings."""
    found = running.admin.cluster(partial=True).get("health_warnings", ())
    return [one["error"]["id"].removeprefix(VCHA) for one in found]


def replace_passive(running: RunningLab) -> None:
    """Redeploy the passive, and require that the task names what it has left."""
    octet = running.lab.state().octet
    address = {"ip_family": "IPV4", "ipv4": {"address": f"127.{octet}.2.88", "prefix": 24}}
    # The old node's processes still hold its address: in the lab, hosts share one machine.
    spec = {"placement": {"name": NEW, "folder": running.folder}, "ha_ip": address}
    ended = running.admin.finished(running.admin.redeploy(spec))
    assert ended["status"] == "SUCCEEDED", ended
    assert ended["progress"]["message"]["id"] == f"{VCHA}commit.owed"
    running.until_healthy()
    assert running.name_of("PASSIVE") == NEW


async def voters_and_standbys(running: RunningLab) -> set[str]:
    """Return the members that vote or may take over."""
    voters = {member.name for member in await cluster.members(running)}
    return voters | await cluster.sync_names(running)


def test_a_node_lost_with_its_host_stays_out(running: RunningLab, writer: Writer) -> None:
    """It is frozen and its host silent; the host comes back later, with the node running."""
    old = running.name_of("PASSIVE")
    vm = next(vm for vm in running.vms() if vm.name == old)
    directory = running.directory(old)
    member = load_identity(directory).member
    signal_node(directory, signal.SIGSTOP)
    connect(running, vm.host, HostConnectionState.DISCONNECTED)
    running.until(lambda: not running.healthy())
    replace_passive(running)
    assert running.role("PASSIVE")["runtime"]["placement"]["host"] != vm.host
    assert "deletion.owed" in warnings(running)
    assert member not in asyncio.run(voters_and_standbys(running))
    signal_node(directory, signal.SIGCONT)
    until(
        lambda: not any(is_postgres(process.argv) for process in find_tree(directory)),
        EXPELLED_SECONDS,
        pause=0.5,
    )
    assert member not in asyncio.run(voters_and_standbys(running))
    assert directory.exists()
    connect(running, vm.host, HostConnectionState.CONNECTED)
    until(lambda: old not in {one.name for one in running.vms()}, OWED_SECONDS, pause=0.5)
    assert not directory.exists()
    assert find_tree(directory) == []
    running.until(lambda: warnings(running) == [])
    running.until_healthy()
    assert writer.missing() == set()
