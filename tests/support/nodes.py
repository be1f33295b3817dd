"""Real nodes on loopback addresses of this machine."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from tests.support import waiting
from tests.support.node_files import write_files

from openvcha.api.secret import Secret
from openvcha.node.identity import Identity, Secrets, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.tls import certified
from openvcha.node.process.process_tree import NodeProcesses
from openvcha.node.security.certificates import KeyPair, api_certificate, new_authorities
from openvcha.node.security.issuing import node_files
from openvcha.node.security.tls import NodeTls
from openvcha.store.etcd.client import Etcd

SECRETS = Secrets(
    superuser=Secret("super:\\user"),
    replication=Secret("repli:\\cation"),
    rewind=Secret("rewind"),
    patroni_rest=Secret("rest"),
    records=Secret("records"),
    application=Secret("appli'cation"),
)


UNTIL_SECONDS = 120.0
"""On a busy machine the start of a node takes many times what it takes alone."""


def until(condition: Callable[[], Any], seconds: float = UNTIL_SECONDS) -> Any:
    """Wait for a condition and return its value; fail at the deadline."""
    return waiting.until(condition, seconds, pause=0.05)


def complete(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in its own thread, apart from the event loops that pytest keeps."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclasses.dataclass
class Node:
    """One node's directory and, while it runs, its supervisor."""

    identity: Identity
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def layout(self) -> Layout:
        """Return the paths of the node."""
        return Layout(self.directory)

    def start(self, **left: Any) -> None:
        """Start it; `left` is what its parent hands down, as arguments of subprocess.Popen."""
        command = [sys.executable, "-m", "openvcha", "node", "run", "--no-service"]
        self.process = subprocess.Popen([*command, str(self.directory)], **left)

    def stop(self) -> int:
        """Terminate the supervisor, and return its exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def pids(self) -> list[int]:
        """Return the ids of all processes of the node."""
        return NodeProcesses().find(self.directory)

    def log(self, part: str) -> str:
        """Return the log of one part."""
        return (self.directory / "logs" / f"{part}.jsonl").read_text()

    def connect(self, user: str = "postgres", **changes: Any) -> psycopg.Connection[Any]:
        """Connect to the node's PostgreSQL; ``changes`` are parameters of the connection."""
        secrets = load_secrets(self.directory)
        known = {
            "postgres": secrets.superuser,
            "rewind": secrets.rewind,
            "app": secrets.application or Secret(""),
        }
        settings: dict[str, Any] = {
            "host": self.identity.ha_address,
            "dbname": user,
            "user": user,
            "password": known.get(user, Secret("")).reveal(),
            **certified(self.layout),
            "connect_timeout": 5,
        }
        return psycopg.connect(**settings | changes, autocommit=True)

    def value(self, query: str) -> Any:
        """Return the single value that a query returns."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row
        return row[0]

    def writable(self, user: str = "app") -> bool:
        """Return whether a user can connect to a primary there."""
        with contextlib.suppress(psycopg.Error), self.connect(user) as connection:
            row = connection.execute("select not pg_is_in_recovery()").fetchone()
            return bool(row and row[0])
        return False

    def etcd(self, ask: Callable[[Etcd], Any]) -> Any:
        """Query this node's etcd; the coroutine that `ask` returns is awaited."""

        async def asked() -> Any:
            endpoint = f"https://{self.identity.ha_address}:2379"
            async with Etcd([endpoint], NodeTls(self.layout)) as store:
                return await ask(store)

        return complete(asked())


def _api(lab: "Lab") -> KeyPair:
    return api_certificate(lab.authorities.service, lab.address(100), "host")


class Lab:
    """Creates the nodes of one cluster and stops them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authorities = new_authorities()
        self.nodes: list[Node] = []
        own = os.getpid()
        self._subnet = f"127.{64 + own % 64}.{(own >> 6) % 256}"

    until = staticmethod(until)
    took = 0.0

    def address(self, number: int) -> str:
        """Return an address of the lab's subnet."""
        return f"{self._subnet}.{number}"

    def node(self, name: str, number: int, members: dict[str, int], **changes: Any) -> Node:
        """Create the directory of a node; ``changes`` are fields of its identity."""
        settings: dict[str, Any] = {
            "cluster_id": "cluster-1",
            "cluster_name": "lab",
            "member": name,
            "kind": "data",
            "vm": f"vm-{number}",
            "name": name,
            "ha_address": self.address(number),
            "public_address": self.address(100),
            "etcd_initial_cluster": {
                member: f"https://{self.address(at)}:2380" for member, at in members.items()
            },
        }
        identity = Identity(**settings | changes)
        data = identity.holds_data
        files = node_files(
            identity,
            self.authorities,
            secrets=SECRETS if data else None,
            api=_api(self) if data else None,
        )
        directory = self.root / name
        write_files(directory, files)
        self.nodes.append(Node(identity, directory))
        return self.nodes[-1]

    def end(self) -> None:
        """Kill all processes of all nodes."""
        for node in self.nodes:
            complete(NodeProcesses().kill(node.directory))
            if node.process:
                node.process.kill()
                node.process.wait()
