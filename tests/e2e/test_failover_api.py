"""The API's process dies or is frozen: the node still leads, and no session or row is lost."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import psycopg
import pytest
from tests.support.lab.failover import wait_for_successor
from tests.support.lab.failover_by_hand import PATH
from tests.support.lab.processes import pid_of
from tests.support.lab.running_lab import AWAY_SECONDS, RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.cluster.config import Ports
from openvcha.node.process.process_tree import is_alive, read_process

pytestmark = pytest.mark.engines
SHARED_LAB = "failovers"
PARTS = ("service", "supervisor")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process during the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # one that hangs is killed
            os.kill(pid, signal.SIGCONT)


class Place:
    """The active node with its two programs, and one session with the database."""

    def __init__(self, running: RunningLab, session: "psycopg.Connection[object]") -> None:
        self.running = running
        self.name = running.active_name()
        self.directory = running.directory(self.name)
        self.service = self.pid("service")
        self.session = session

    def pid(self, part: str) -> int:
        """Wait for the process of a part, which may be about to restart."""
        found = until(
            lambda: pid_of(self.directory, part),
            AWAY_SECONDS,
            seen=lambda: part,
            absent=(StopIteration,),
        )
        return int(found)

    def assert_leads_on(self) -> None:
        """Check that only the API was restarted, and that database clients noticed nothing."""
        assert self.session.execute("SELECT 1").fetchone() == (1,)
        assert self.pid("service") == self.service
        assert self.running.active_name() == self.name

    def wait_for_api(self) -> None:
        """Wait until the API answers the same session again."""
        until(self.answers, AWAY_SECONDS)

    def wait_for_no_api(self) -> None:
        until(lambda: not self.answers(), AWAY_SECONDS)

    def answers(self) -> bool:
        try:
            return self.running.admin.http.get("/session").status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture
def place(running: RunningLab, writer: Writer) -> Iterator[Place]:
    with writer.connect(running.lab.state().public_address) as session:
        yield Place(running, session)


def killed_for_hanging(log: str, pid: int) -> bool:
    """Return whether a supervisor has logged that it killed a hung process."""
    lines = [json.loads(line) for line in log.splitlines()]
    return any(line["event"] == "hung; killed" and line["pid"] == pid for line in lines)


def wait_for_database(running: RunningLab) -> None:
    """Wait until the database's address, which went away with the service, is held again."""
    place = running.lab.state().public_address, Ports().postgres

    def connects() -> bool:
        socket.create_connection(place, timeout=AWAY_SECONDS).close()
        return True

    until(connects, AWAY_SECONDS, absent=(OSError,))


def test_a_killed_api_costs_nobody_anything(place: Place, writer: Writer) -> None:
    """It restarts by itself, with all sessions; the node never stopped leading."""
    before = place.pid("api")
    os.kill(before, signal.SIGKILL)
    until(lambda: place.pid("api") != before, AWAY_SECONDS)
    place.wait_for_api()
    place.assert_leads_on()
    assert writer.missing() == set()


@pytest.mark.soak
def test_a_frozen_api_costs_the_database_nothing(place: Place, writer: Writer) -> None:
    """Rows are still written; it is killed, and a new one serves the same sessions."""
    rows, before = len(writer.acknowledged), place.pid("api")
    with frozen(before):
        until(
            lambda: len(writer.acknowledged) >= rows + 300,
            AWAY_SECONDS,
            seen=lambda: len(writer.acknowledged) - rows,
        )
        until(lambda: place.pid("api") != before, AWAY_SECONDS)
        place.wait_for_api()
    place.assert_leads_on()
    assert writer.missing() == set()


@pytest.mark.soak
def test_an_api_without_its_service_serves_nobody(place: Place) -> None:
    """A frozen service cannot say that another node leads; the API returns together with it."""
    api = place.pid("api")
    with frozen(place.service):
        place.wait_for_no_api()
    place.wait_for_api()
    with suppress(ProcessLookupError):  # it may have been frozen for as long as one that hangs
        os.kill(place.service, signal.SIGKILL)
    until(lambda: place.pid("service") != place.service, AWAY_SECONDS)
    place.wait_for_api()
    assert place.pid("api") == api
    wait_for_database(place.running)


@pytest.mark.soak
def test_a_frozen_api_holds_no_failover_up(place: Place, writer: Writer) -> None:
    """It holds the port that the successor needs, and the service that led kills it.

    On a busy machine its supervisor may be first: it kills what hangs.
    """
    api, running = read_process(place.pid("api")), place.running
    assert api
    running.until(running.healthy)
    task = running.admin.call("POST", PATH, {"planned": True}, 202)
    with frozen(api.pid):
        wait_for_successor(running, place.name)
        until(lambda: not is_alive(api), AWAY_SECONDS)
        logs = running.layout(place.name).logs

        def told() -> bool:
            service, supervisor = ((logs / f"{part}.jsonl").read_text() for part in PARTS)
            ordered = "the API did not stop serving; killed" in service
            return ordered or killed_for_hanging(supervisor, api.pid)

        until(told, AWAY_SECONDS)
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    running.until(running.healthy)
    assert writer.missing() == set()
