"""A lab with real engines, its commands and its REST client."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from tests.support.waiting import until

from openvcha.infrastructure.state import State
from openvcha.lab.state import ADMINISTRATOR, READER, Lab
from openvcha.node.layout import Layout

NAME = "e2e"


# Upper bounds for what must happen, not measurements: with both cores busy, a command that takes a
# second takes a minute.
HEALTHY_SECONDS = 240.0


TASK_SECONDS = 600.0


AWAY_SECONDS = 240.0


COMMAND_SECONDS = 600.0


POLL_SECONDS = 0.25
"""Most conditions ask the API for the cluster's state: work for the machine that they wait for."""


VCHA = "com.vmware.vcenter.vcha."


MODE = "/vcenter/vcha/cluster/mode"


NO_ACTIVE = (httpx2.TransportError, AssertionError, StopIteration)
"""What asking for the active raises while nobody is there yet, serves (503) or leads."""


class Rest:
    """A plain client of /api, like any HTTP library."""

    def __init__(self, base: str, ca: Path, user: str, password: str) -> None:
        self.http = httpx2.Client(base_url=f"{base}/api", verify=trust(ca), timeout=120.0)
        reply = self.http.post("/session", auth=(user, password))
        assert reply.status_code == 201, reply.text
        self.token: str = reply.json()
        self.http.headers["vmware-api-session-id"] = self.token

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Call the API, require this status, and return the decoded body."""
        reply = self.http.request(method, path, json=body)
        assert reply.status_code == status, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def cluster(self, *, partial: bool = False) -> dict[str, Any]:
        """Return the cluster's state, as cluster.get does."""
        found: dict[str, Any] = self.call(
            "POST", "/vcenter/vcha/cluster?action=get", {"partial": partial}
        )
        return found

    def redeploy(self, spec: dict[str, Any], status: int = 202) -> Any:
        """Start a redeploy of the passive; return the decoded body: its task's id, or an error."""
        path = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
        return self.call("POST", path, spec, status)

    def get_task(self, task: str) -> dict[str, Any]:
        """Poll a task, also while no node serves the API."""
        replies: list[httpx2.Response] = []

        def served() -> bool:
            replies[:] = [self.http.get(f"/cis/tasks/{task}")]
            return replies[0].status_code != 503

        away = httpx2.TransportError
        until(served, AWAY_SECONDS, seen=lambda: [one.text for one in replies], absent=(away,))
        (reply,) = replies
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def finished(self, task: str) -> dict[str, Any]:
        """Wait until a task has ended; its progress must never decrease."""
        highest = 0
        deadline = time.monotonic() + TASK_SECONDS
        while (info := self.get_task(task))["status"] in {"PENDING", "RUNNING"}:
            assert time.monotonic() < deadline, info
            completed = info.get("progress", {}).get("completed", 0)
            assert completed >= highest
            highest = completed
            time.sleep(0.1)
        return info


def trust(ca: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts this CA."""
    return ssl.create_default_context(cafile=ca)


@dataclass
class RunningLab:
    """The lab under test."""

    base: Path
    lab: Lab
    admin: Rest
    reader: Rest

    @property
    def api(self) -> str:
        """Return the URL of the API."""
        return f"https://{self.lab.state().public_address}:8443"

    @property
    def folder(self) -> str:
        """Return the folder of the VMs."""
        return "group-v3"

    def password(self, user: str = ADMINISTRATOR) -> str:
        """Return a user's password."""
        return self.lab.password(user).reveal()

    def vcha(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of vcha for this lab."""
        return run_vcha([*arguments, "--name", NAME, "--dir", str(self.base)], check=check)

    def vms(self) -> list[Any]:
        """Return the VMs in the lab's inventory."""
        path = self.lab.infrastructure / "inventory.json"
        return list(msgspec.json.decode(path.read_bytes(), type=State).inventory.vms)

    def directory(self, name: str) -> Path:
        """Return the directory of a node, found by its VM's name."""
        vm = next(vm for vm in self.vms() if vm.name == name)
        return Path(self.lab.infrastructure / vm.directory)

    def layout(self, name: str) -> Layout:
        """Return the layout of a node, by name."""
        return Layout(self.directory(name))

    def role(self, role: str) -> dict[str, Any]:
        """Return what the API shows of the node with a role."""
        info = self.admin.cluster()
        nodes = [info[name] for name in ("node1", "node2", "witness") if name in info]
        return next(node for node in nodes if node["runtime"]["role"] == role)

    def name_of(self, role: str) -> str:
        """Return the name of the VM with a role."""
        return str(self.role(role)["runtime"]["placement"]["vm_name"])

    def active_name(self, seconds: float = AWAY_SECONDS) -> str:
        """Wait until a node serves the API and leads; the address may be about to move."""
        return str(until(lambda: self.name_of("ACTIVE"), seconds, absent=NO_ACTIVE))

    def lose_passive(self) -> None:
        """Destroy the passive with its data, and wait until the cluster has noticed."""
        self.vcha("lab", "destroy", "passive")
        self.until(lambda: self.admin.cluster(partial=True)["health_state"] == "DEGRADED")

    def until(self, condition: Callable[[], bool], seconds: float = HEALTHY_SECONDS) -> None:
        """Wait for a condition; fail at the deadline with the cluster's state."""
        until(condition, seconds, seen=self.admin.cluster, pause=POLL_SECONDS)

    def healthy(self) -> bool:
        """Return whether the cluster is HEALTHY at this moment; a test waits for that instead."""
        return self.admin.cluster(partial=True).get("health_state") == "HEALTHY"

    def until_healthy(self, seconds: float = HEALTHY_SECONDS) -> None:
        """Wait until the cluster is HEALTHY; fail at the deadline with the state last seen."""
        seen: list[Any] = []

        def healthy() -> bool:
            seen[:] = [self.admin.cluster(partial=True)]
            return bool(seen[0].get("health_state") == "HEALTHY")

        until(healthy, seconds, seen=lambda: seen, absent=NO_ACTIVE, pause=POLL_SECONDS)

    def repair(self, name: str) -> None:
        """Restore the cluster to HEALTHY and ENABLED, however the last test left it.

        A refused redeploy proves nothing: the cluster may be recovering, or busy. But a lab that is
        no cluster any more, as after an undeploy, stays that: the repair fails at once.
        """
        config_state = until(
            lambda: self.admin.cluster(partial=True)["config_state"],
            HEALTHY_SECONDS,
            absent=NO_ACTIVE,
        )
        assert config_state == "CONFIGURED", config_state
        spec = {"placement": {"name": name, "folder": self.folder}}
        begun = until(
            lambda: self.healthy() or self.admin.redeploy(spec), HEALTHY_SECONDS, absent=NO_ACTIVE
        )
        if begun is not True:
            assert self.admin.finished(begun)["status"] == "SUCCEEDED"
        if self.admin.call("GET", MODE) != {"mode": "ENABLED"}:
            task = self.admin.call("PUT", f"{MODE}?vmw-task=true", {"mode": "ENABLED"}, 202)
            assert self.admin.finished(task)["status"] == "SUCCEEDED"
        self.until_healthy()


def run_vcha(arguments: Sequence[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    """Run a command of vcha; with ``check``, require that it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "openvcha", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        # In hundreds of runs on a busy machine one command crashed with SIGSEGV: print a traceback
        # then.
        env={**os.environ, "COLUMNS": "120", "PYTHONFAULTHANDLER": "1"},
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def lab_up(base: Path, *options: str, name: str = NAME) -> Iterator[RunningLab]:
    """Yield the lab that ``vcha lab up`` makes; delete it with all its files at the end.

    Also if it does not come up: some of its nodes may run.
    """
    place = ["--name", name, "--dir", str(base)]
    with ExitStack() as ends:
        ends.callback(run_vcha, ["lab", "reset", "--yes", *place], check=False)
        run_vcha(["lab", "up", *options, *place], check=True)
        lab = Lab(base / name)
        api = f"https://{lab.state().public_address}:8443"
        users = [
            Rest(api, lab.ca, user, lab.password(user).reveal()) for user in (ADMINISTRATOR, READER)
        ]
        running = RunningLab(base, lab, *users)
        try:
            yield running
        finally:
            # A test may have put users of another lab there.
            for user in (*users, running.admin, running.reader):
                user.http.close()


def message_ids(body: dict[str, Any]) -> list[str]:
    """Return the message ids of an error without our prefix."""
    return [message["id"].removeprefix(VCHA) for message in body["messages"]]
