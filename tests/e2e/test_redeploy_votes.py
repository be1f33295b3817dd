"""The active dies while both votes are needed: its peers power it on, and the task ends.

This test never calls `lab up`. Regression: the active stayed off until a person came, as the others
could not read the task from a store that had stopped.
"""

from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import pytest
from tests.support.lab.rules import DEPLOY, UNDEPLOY, deploy_spec
from tests.support.lab.running_lab import HEALTHY_SECONDS, TASK_SECONDS, RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.daemon.peer_power import parse_voters
from openvcha.node.etcd.member import peer_url
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.process.process_tree import find_tree, kill_tree, read_process
from openvcha.node.security.tls import NodeTls

pytestmark = [pytest.mark.engines, pytest.mark.soak]
SHARED_LAB = "repairs"


def voters_of(layout: Layout) -> list[str]:
    """Ask a node's etcd for the voters, as it tells its peers; none while it does not answer."""
    place = urlsplit(peer_url(load_identity(layout.root)))
    asking = HTTPSConnection(
        str(place.hostname), place.port, timeout=2.0, context=NodeTls(layout)()
    )
    try:
        asking.request("GET", "/members")
        return parse_voters(asking.getresponse().read()) or []
    except (OSError, HTTPException):
        return []
    finally:
        asking.close()


def until_two_vote(layout: Layout) -> None:
    """Poll until exactly two members vote."""
    until(lambda: len(voters_of(layout)) == 2, TASK_SECONDS, pause=0.005)


def lose_active_while_two_vote(running: RunningLab, name: str) -> list[str]:
    """Kill the whole active at once, and wait until a peer has powered it on again.

    Return the nodes that had power just after its death.
    """
    layout = running.layout(name)
    until_two_vote(layout)
    before = int(layout.supervisor_pid.read_text())
    kill_tree(layout.root)
    left = [vm.name for vm in running.vms() if find_tree(running.directory(vm.name))]

    def powered_on() -> bool:
        now = int(layout.supervisor_pid.read_text() or before)
        return now != before and read_process(now) is not None

    until(powered_on, HEALTHY_SECONDS)
    return left


def validate(running: RunningLab, task: str, writer: Writer) -> None:
    info = running.admin.finished(task)
    assert info["status"] == "SUCCEEDED", info
    running.until(running.healthy)
    rows = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > rows + 20)
    assert writer.missing() == set()
    # Otherwise a node that a person switches off later would not stay off.
    running.until(
        lambda: not any(running.layout(vm.name).required_votes.exists() for vm in running.vms())
    )


def test_the_active_dies_in_a_redeploy_when_the_lost_vote_is_taken(
    degraded: RunningLab, writer: Writer
) -> None:
    """Only the witness is left, or also the new node, which has no vote yet."""
    name = degraded.name_of("ACTIVE")
    spec = {"placement": {"name": "after-votes", "folder": degraded.folder}}
    task = str(degraded.admin.redeploy(spec))
    lose_active_while_two_vote(degraded, name)
    validate(degraded, task, writer)
    assert degraded.name_of("ACTIVE") == name


def test_the_active_dies_in_a_deployment_when_the_second_node_has_its_vote(
    running: RunningLab, writer: Writer
) -> None:
    """It was a single node a moment ago, and no other has its rows: the newest member powers it on.

    The third has no vote yet, and mostly no power. Regression: the active took no writes until a
    person powered the second one on.
    """
    name = running.name_of("ACTIVE")
    alone = running.admin.call("POST", UNDEPLOY, {"force_delete": True}, 202)
    assert running.admin.finished(alone)["status"] == "SUCCEEDED"
    spec = deploy_spec(running)
    task = str(running.admin.call("POST", DEPLOY, spec, 202))
    left = lose_active_while_two_vote(running, name)
    assert spec["passive"]["placement"]["name"] in left
    assert name not in left
    validate(running, task, writer)
    assert running.name_of("ACTIVE") == name
