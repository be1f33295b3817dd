"""The active loses its power: the passive takes over, with every row and every session."""

import json
import os
import signal
from typing import Any

import pytest
from tests.support.lab.failover import (
    TAKE_OVER_SECONDS,
    event_names,
    superuser,
    there,
    wait_for_successor,
    warnings,
)
from tests.support.lab.running_lab import HEALTHY_SECONDS, NO_ACTIVE, VCHA, RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.identity import Timers
from openvcha.node.process.process_tree import find_tree, is_alive

pytestmark = pytest.mark.engines
SHARED_LAB = "failovers"


def test_sessions_and_rows_live_through_a_failover(running: RunningLab, writer: Writer) -> None:
    """The same token works at the successor; the old active rejoins as the passive by itself."""
    old = running.name_of("ACTIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    known, deployed = len(event_names(running)), deployments(running)
    running.vcha("lab", "kill", "active")
    wait_for_successor(running, old)
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    # The successor has just begun to look: each of these comes when it is sure.
    running.until(lambda: running.admin.cluster()["health_state"] == "DEGRADED")
    running.until(lambda: {"node.lost", "quorum.no.margin"} <= warnings(running))
    running.until(lambda: f"node.left {old}" in event_names(running))
    running.vcha("lab", "up")
    running.until(running.healthy)
    until(lambda: running.name_of("PASSIVE") == old, HEALTHY_SECONDS, absent=NO_ACTIVE)
    assert writer.missing() == set()
    running.until(lambda: "state.healthy" in since_takeover(running, known))
    assert_told_once(running, old, since_takeover(running, known))
    assert deployments(running) == deployed


def since_takeover(running: RunningLab, known: int) -> list[str]:
    """Return the events from the takeover on, which is not among the ``known`` first.

    Others use this lab too.
    """
    found, takeover = (
        event_names(running)[known:],
        f"failover.succeeded {running.name_of('ACTIVE')}",
    )
    return found[found.index(takeover) :] if takeover in found else []


def assert_told_once(running: RunningLab, old: str, after: list[str]) -> None:
    """Check that the successor reports one failover, continues the numbers, and repeats nothing."""
    successor = running.name_of("ACTIVE")
    assert not {"operation.started", "operation.succeeded"} & set(after)
    assert after.count(f"failover.succeeded {successor}") == 1
    assert after.index(f"address.taken {successor}") < after.index(f"node.joined {old}")
    assert after.index(f"node.left {old}") < after.index(f"node.joined {old}")
    assert after.index("state.degraded") < after.index("state.healthy")
    ids = [int(event["id"]) for event in running.reader.call("GET", "/openvcha/events")]
    assert ids == list(range(1, len(ids) + 1))
    lines = running.vcha("events", "--json").stdout.splitlines()
    assert [int(json.loads(line)["id"]) for line in lines] == ids


def audit(running: RunningLab) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.vcha("audit", "--json").stdout.splitlines()]


def deployments(running: RunningLab) -> list[dict[str, Any]]:
    """Return the audit's records of the deployments that were begun."""
    deploy = f"{VCHA}cluster.deploy"
    return [
        each for each in audit(running) if (each["operation"], each["result"]) == (deploy, "OK")
    ]


def test_the_audit_records_the_deployment(running: RunningLab) -> None:
    """With its task and no secret; a reader may not read it."""
    first, *_ = deployments(running)
    assert first["user"] == ADMINISTRATOR
    assert first["task"]
    assert running.password() not in str(audit(running))
    assert running.reader.call("GET", "/openvcha/audit", status=403)


@pytest.mark.soak
def test_replication_that_lags_is_told_with_bytes_and_seconds(
    running: RunningLab, writer: Writer
) -> None:
    """A reader on the passive delays replay: still HEALTHY, as no row can be lost."""
    running.until(running.healthy)
    with (
        superuser(running, "ACTIVE") as active,
        superuser(running, "PASSIVE") as passive,
    ):
        active.execute("create table held ()")
        running.until(lambda: there(passive, "held"))
        with passive.transaction():
            passive.execute("select from held")
            active.execute("drop table held")
            running.until(lambda: "replication.lagging" in warnings(running))
            info = running.admin.cluster(partial=True)
    assert info["health_state"] == "HEALTHY"
    (lag,) = [w for w in info["health_warnings"] if w["error"]["id"].endswith("lagging")]
    _, size, seconds = lag["error"]["args"]
    assert int(size) > 0
    assert float(seconds) >= Timers().replication_lag  # shown with one digit
    running.until(lambda: not warnings(running))
    assert writer.missing() == set()


@pytest.mark.soak
def test_a_killed_supervisor_takes_its_node_with_it(running: RunningLab, writer: Writer) -> None:
    """Otherwise its Patroni keeps the leader key beside a failed service: no node takes over."""
    running.until(running.healthy)
    old = running.name_of("ACTIVE")
    layout = running.layout(old)
    running.until(lambda: len(writer.acknowledged) > 20)
    os.kill(int(layout.supervisor_pid.read_text()), signal.SIGKILL)
    wait_for_successor(running, old)
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    running.until(lambda: find_tree(layout.root) == [])
    running.vcha("lab", "up")
    running.until(running.healthy)
    assert running.name_of("PASSIVE") == old
    assert writer.missing() == set()


@pytest.mark.soak
def test_a_service_that_hangs_is_started_again(running: RunningLab, writer: Writer) -> None:
    """Otherwise every client of the public address hangs for as long as the service does."""
    running.until(running.healthy)
    root = running.layout(running.name_of("ACTIVE")).root
    (hanging,) = [process for process in find_tree(root) if "service" in process.argv]
    os.kill(hanging.pid, signal.SIGSTOP)
    until(lambda: not is_alive(hanging), TAKE_OVER_SECONDS, pause=0.2)
    before = len(writer.acknowledged)
    until(lambda: len(writer.acknowledged) > before + 20, TAKE_OVER_SECONDS, pause=0.2)
    assert writer.missing() == set()
