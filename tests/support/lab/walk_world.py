"""The lab as the walk sees it: the actual state, beside what the API says of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.walk_ledger import Ledger
from tests.support.waiting import until

from openvcha.node.identity import Identity, load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.own_names import SUPERUSER
from openvcha.node.postgres.tls import certified
from openvcha.node.process.process_tree import NodeProcesses, kill_tree

SETTLE_SECONDS = 300.0
POLL_SECONDS = 0.2
CONNECT_SECONDS = 2


@dataclass(frozen=True)
class ProbedNode:
    """One node's VM, judged only by its processes and its PostgreSQL."""

    name: str
    directory: Path
    identity: Identity
    on: bool

    def writable(self) -> bool:
        """Return whether this PostgreSQL acknowledges a write over a direct connection."""
        if not (self.on and self.identity.holds_data):
            return False
        layout = Layout(self.directory)
        place = psycopg.conninfo.make_conninfo(
            host=self.identity.ha_address,
            port=self.identity.ports.postgres,
            user=SUPERUSER,
            dbname="app",
            password=load_secrets(self.directory).superuser.reveal(),
            connect_timeout=CONNECT_SECONDS,
            **certified(layout),
            options="-c statement_timeout=2000 -c lock_timeout=2000",
        )
        warned: list[Any] = []
        try:
            with psycopg.connect(place, autocommit=True) as connection:
                connection.add_notice_handler(warned.append)
                connection.execute("INSERT INTO probed VALUES (now())")
        except psycopg.Error:
            return False
        # A commit whose wait for the standby was canceled warns: it was not acknowledged.
        return not warned


class LabProbe:
    """A lab with a writer, and the queries that the walk needs."""

    def __init__(self, running: RunningLab) -> None:
        self.running = running
        passwords = json.loads(running.lab.passwords_file.read_text())
        self.brought_up: object = None
        self.ledger = Ledger(running.lab.state().public_address, passwords["app"], running.lab.ca)

    def machines(self) -> list[ProbedNode]:
        """Return every VM with an identity, as the process table shows it."""
        found = []
        for vm in self.running.vms():
            directory = Path(self.running.lab.infrastructure / vm.directory)
            if not (directory / "node.json").exists():
                continue
            on = bool(NodeProcesses().find(directory))
            found.append(ProbedNode(vm.name, directory, load_identity(directory), on))
        return found

    def takers(self) -> set[str]:
        """Return the names of the nodes that take writes at the same time.

        They are asked one after the other, so a hand-over meanwhile may show two: both of them
        must take writes once more.
        """
        found = self._writable()
        return found if len(found) < 2 else found & self._writable()

    def _writable(self) -> set[str]:
        return {machine.name for machine in self.machines() if machine.writable()}

    def cluster(self) -> dict[str, Any] | None:
        """Return the API's answer; None when no node answers with a cluster."""
        try:
            reply = self.running.admin.http.post(
                "/vcenter/vcha/cluster?action=get", json={"partial": False}
            )
        except httpx2.TransportError:
            return None
        if reply.status_code == 503:
            return None
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def roles(self) -> dict[str, str]:
        """Return the VM name of each role that the API knows now."""
        info = self.cluster() or {}
        found = {}
        for key in ("node1", "node2", "witness"):
            runtime = info.get(key, {}).get("runtime", {})
            if "role" in runtime and "placement" in runtime:
                found[runtime["role"]] = runtime["placement"]["vm_name"]
        return found

    def off(self) -> list[str]:
        """Return the names of the nodes that are powered off."""
        return [machine.name for machine in self.machines() if not machine.on]

    def until(self, condition: Any, what: str, seconds: float = SETTLE_SECONDS) -> None:
        """Wait for a condition; on failure name it and show what the cluster says."""
        until(
            condition,
            seconds,
            seen=lambda: (what, self.cluster(), self.brought_up, self.machines()),
            pause=POLL_SECONDS,
        )

    def health(self) -> str | None:
        """Return the health that the API reports."""
        return (self.cluster() or {}).get("health_state")

    def kill(self, name: str) -> None:
        """Cut a node's power: kill all of its processes at once."""
        kill_tree(next(m for m in self.machines() if m.name == name).directory)

    def power_on(self) -> None:
        """Power on every node that is off, and wait as `vcha lab up` does."""
        done = self.running.vcha("lab", "up", check=False)
        self.brought_up = (done.returncode, done.stdout[-2000:], done.stderr[-2000:])

    def call(self, method: str, path: str, body: dict[str, Any]) -> httpx2.Response:
        """Call an operation that must be answered."""
        return self.running.admin.http.request(method, path, json=body)

    def task(self, reply: httpx2.Response) -> str:
        """Follow the task of an accepted operation to its end, and return its status."""
        assert reply.status_code == 202, reply.text
        return str(self.running.admin.finished(reply.json())["status"])
