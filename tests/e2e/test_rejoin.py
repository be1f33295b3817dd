"""Nodes rejoin by themselves, and an isolated active acknowledges nothing."""

import itertools
import json
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.support.lab.failover import wait_for_successor
from tests.support.lab.nodes import answers_healthy, node_status
from tests.support.lab.processes import signal_node
from tests.support.lab.running_lab import RunningLab, run_vcha
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.node.identity import load_identity
from openvcha.node.postgres.standby_data.old_data import list_old_data
from openvcha.node.process.status import Contact, OwnView, load_status

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"


def events(running: RunningLab, name: str) -> list[str]:
    """Return what the node's supervisor has logged, in order."""
    lines = (running.layout(name).logs / "supervisor.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def assert_copied_anew(running: RunningLab, name: str) -> None:
    """Check that the old data were set aside before the copy, and deleted once in sync."""
    order = [
        "set aside the data of a stuck standby",
        "base backup done",
        "the new copy is in sync; the old data",
    ]

    def last() -> list[str]:
        found = [event for event in events(running, name) if event.startswith(tuple(order))]
        return [next(word for word in order if event.startswith(word)) for event in found[-3:]]

    running.until(lambda: last() == order)
    assert not list_old_data(running.layout(name))


@pytest.mark.soak
@pytest.mark.parametrize("role", ["passive", "witness"])
def test_a_killed_node_that_is_started_again_is_back(
    running: RunningLab, writer: Writer, role: str
) -> None:
    """The same node in the same role, without a person's help."""
    name = running.name_of(role.upper())
    running.vcha("lab", "kill", role)
    running.until(lambda: running.admin.cluster(partial=True)["health_state"] == "DEGRADED")
    running.vcha("lab", "up")
    assert running.name_of(role.upper()) == name
    assert writer.missing() == set()


@pytest.mark.soak
def test_an_old_active_that_cannot_be_rewound_is_copied_anew(
    running: RunningLab, writer: Writer
) -> None:
    """Its WAL is gone, so the point where its history and the successor's diverge is unknown."""
    old = running.name_of("ACTIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    running.vcha("lab", "kill", "active")
    wait_for_successor(running, old)
    wal = running.layout(old).pgdata / "pg_wal"
    shutil.rmtree(wal)
    (wal / "archive_status").mkdir(parents=True)
    running.vcha("lab", "up", check=False)
    running.until(running.healthy)
    running.until(lambda: not list_old_data(running.layout(old)))
    assert running.name_of("PASSIVE") == old
    assert_copied_anew(running, old)
    assert writer.missing() == set()


def freeze(running: RunningLab, name: str, signal_: signal.Signals) -> None:
    """Stop or continue a node: to its peers it is isolated."""
    signal_node(running.directory(name), signal_)


def test_an_active_that_is_cut_off_acknowledges_nothing_and_comes_back(
    running: RunningLab, writer: Writer
) -> None:
    """An open session cannot commit, no client can connect any more, and the node says why."""
    active, passive, witness = (running.name_of(r) for r in ("ACTIVE", "PASSIVE", "WITNESS"))
    running.until(lambda: len(writer.acknowledged) > 20)
    public = running.lab.state().public_address
    own = load_identity(running.directory(active)).ha_address
    sessions = [writer.connect(public), writer.connect(own)]
    # The passive last: a busy machine is slow, and with the witness's vote the active may rightly
    # go on without the passive.
    for name in (witness, passive):
        freeze(running, name, signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        outcomes = list(threads.map(outcome_of_a_write, sessions, (-1, -2)))
    assert outcomes == ["ended", "ended"]
    wait_until_isolated(running, active)
    until(lambda: not any(is_open(public, port) for port in (5432, 8443)), 120)
    freeze(running, witness, signal.SIGCONT)
    assert_alone_it_is_ended_before_it_is_isolated(running, writer, active, witness)
    for name in (passive, witness):
        freeze(running, name, signal.SIGCONT)
    running.until(lambda: answers_healthy(running))
    running.until(lambda: says(running, active, Contact.CONNECTED))
    assert node_status(running, active)["status"]["view"]["contact"] == "CONNECTED"
    assert writer.missing() == set()


def assert_alone_it_is_ended_before_it_is_isolated(
    running: RunningLab, writer: Writer, active: str, witness: str
) -> None:
    """Without the passive commits do not wait: none is acknowledged from ISOLATED on."""
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    running.until(lambda: not says(running, active, Contact.ISOLATED))
    address = load_identity(running.directory(active)).ha_address
    with writer.connect(address) as session, ThreadPoolExecutor() as threads:
        freeze(running, witness, signal.SIGSTOP)
        last = threads.submit(last_acknowledged, session)
        until(lambda: says(running, active, Contact.ISOLATED), 240, pause=0.01)
        isolated = time.monotonic()
        assert last.result(60) < isolated
    wait_until_isolated(running, active)


def last_acknowledged(session: "psycopg.Connection[Any]") -> float:
    """Write until the session ends; return when the last row was acknowledged."""
    for row in itertools.count(-1000, -1):
        try:
            session.execute("INSERT INTO written VALUES (%s)", (row,))
        except psycopg.Error:
            break
        last = time.monotonic()
    return last


def view_of(running: RunningLab, name: str) -> OwnView | None:
    """Read what a node says of itself, without a program for each look."""
    status = load_status(running.directory(name))
    return status.view if status else None


def says(running: RunningLab, name: str, contact: Contact) -> bool:
    view = view_of(running, name)
    return bool(view and view.contact is contact)


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def outcome_of_a_write(session: "psycopg.Connection[Any]", row: int) -> str:
    """Commit a row in an open session: "acknowledged", "unknown" (with a warning), or "ended"."""
    warned: list[str] = []
    session.add_notice_handler(lambda notice: warned.append(str(notice.message_primary)))
    try:
        session.execute("INSERT INTO written VALUES (%s)", (row,))
    except psycopg.Error:
        return "ended"
    finally:
        session.close()
    return "unknown" if warned else "acknowledged"


def wait_until_isolated(running: RunningLab, active: str) -> None:
    """Wait until the node itself reports that it is isolated, from whom, and takes no writes."""
    others = {running.layout(n).root for n in (vm.name for vm in running.vms()) if n != active}
    silent = sorted(load_identity(directory).member for directory in others)

    def isolated() -> bool:
        view = view_of(running, active)
        seen = view and (view.contact, view.writable, sorted(view.waits_for))
        return seen == (Contact.ISOLATED, False, silent)

    until(isolated, 240, seen=lambda: node_status(running, active), pause=0.2)
    said = run_vcha(["node", "status", str(running.directory(active))], check=True).stdout
    assert "ISOLATED since" in said
    assert silent[0] in said
