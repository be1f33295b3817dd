"""The active freezes with all its processes: its address moves, and its sessions end."""

import json
import logging
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest
from tests.support.lab.failover import TAKE_OVER_SECONDS, wait_for_successor
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.lab.access import connection_string
from openvcha.node.identity import load_identity
from openvcha.node.process.process_tree import Process, find_tree, send

pytestmark = [pytest.mark.engines, pytest.mark.soak]
SHARED_LAB = "failovers"
ATTEMPT_SECONDS = 2
MARGIN_SECONDS = 40.0
"""Beside the ttl: on a busy machine each part of a takeover takes seconds."""


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    """Freeze all processes of a node, as a debugger or a hypervisor does, during a block."""
    stopped: dict[int, Process] = {}
    try:
        while fresh := [one for one in find_tree(directory) if one.pid not in stopped]:
            for process in fresh:
                stopped[process.pid] = process
                send(process, signal.SIGSTOP)
        yield
    finally:
        for process in stopped.values():
            send(process, signal.SIGCONT)


def target(running: RunningLab) -> str:
    parameters = {**running.lab.database(tls=True), "connect_timeout": str(ATTEMPT_SECONDS)}
    return connection_string(parameters)


def address_of_server(running: RunningLab) -> str:
    """Return the HA address of the PostgreSQL that a new client of the public address reaches."""
    with psycopg.connect(target(running)) as client:
        row = client.execute("select host(inet_server_addr())").fetchone()
    assert row is not None
    return str(row[0])


def serves_api(running: RunningLab) -> bool:
    """Return whether a new client of the API gets an answer."""
    context = ssl.create_default_context(cafile=running.lab.ca)
    with httpx2.Client(verify=context, timeout=ATTEMPT_SECONDS) as client:
        return client.get(f"{running.api}/api/session").status_code == 401


def holders(running: RunningLab) -> tuple[str, str]:
    found = json.loads(running.vcha("lab", "status", "--json", check=False).stdout)
    held = found["public_address"]
    return held["database"], held["api"]


def test_a_frozen_active_loses_the_address_and_its_sessions(
    running: RunningLab, writer: Writer
) -> None:
    """New clients reach the successor; of the former one's sessions none goes on or commits."""
    running.until(running.healthy)
    old = running.name_of("ACTIVE")
    layout = running.layout(old)
    assert holders(running) == (old, old)
    before, ttl = load_identity(layout.root).ha_address, load_identity(layout.root).timers
    running.until(lambda: len(writer.acknowledged) > 20)
    with psycopg.connect(target(running)) as session:
        session.execute("create table frozen (number int)")
        session.commit()
        session.execute("insert into frozen values (1)")
        with frozen(layout.root):
            began = time.monotonic()
            absent = (psycopg.Error,)
            until(lambda: address_of_server(running) != before, TAKE_OVER_SECONDS, absent=absent)
            database = time.monotonic() - began
            until(lambda: serves_api(running), TAKE_OVER_SECONDS, absent=(httpx2.TransportError,))
            api = time.monotonic() - began
            with pytest.raises(psycopg.OperationalError):
                session.commit()
            wait_for_successor(running, old)
            rows = len(writer.acknowledged)
            running.until(lambda: len(writer.acknowledged) > rows + 20)
        successor = running.name_of("ACTIVE")
        assert successor != old
    logging.getLogger(__name__).info("new connections after %.1f s and %.1f s", database, api)
    assert max(database, api) < ttl.leader_ttl + MARGIN_SECONDS
    validate_thawed(running, old, successor, before)
    with psycopg.connect(target(running)) as client:
        assert client.execute("select count(*) from frozen").fetchone() == (0,)
        client.execute("drop table frozen")
    assert writer.missing() == set()


def validate_thawed(running: RunningLab, old: str, successor: str, address: str) -> None:
    """Check that a thawed former active gets no connection until it follows."""

    def follows() -> bool:
        assert address_of_server(running) != address
        assert holders(running) == (successor, successor)
        return running.name_of("PASSIVE") == old and running.healthy()

    running.until(follows)
