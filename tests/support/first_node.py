"""A first node that `vcha init` makes on loopback addresses of this machine."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from openvcha.api.secret import Secret
from openvcha.client import trust
from openvcha.client.errors import RequestRefused, ServerUnreachable
from openvcha.client.rest_client import ApiClient
from openvcha.node.layout import Layout
from openvcha.node.postgres.tls import trusting
from openvcha.node.process.process_tree import NodeProcesses

SURE_SECONDS = 120.0
ADMINISTRATOR = "administrator@vsphere.local"


def subnet(offset: int) -> str:
    """Return the first three bytes of a loopback subnet that no other test has."""
    own = os.getpid()
    return f"127.{200 + (own + offset) % 50}.{(own >> 6) % 256}"


@dataclass
class First:
    """A first node that `vcha init` makes in ``directory``, and others that join it by hand."""

    directory: Path
    offset: int = 0
    processes: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def public(self) -> str:
        """Return the public address."""
        return f"{subnet(self.offset + 1)}.10"

    @property
    def server(self) -> str:
        """Return the URL of the API."""
        return f"https://{self.public}:8443"

    @property
    def ca(self) -> Path:
        """Return the authority that clients trust."""
        return Layout(self.directory).service_ca

    def ha_address(self, number: int) -> str:
        """Return the HA address of a node; the first one's number is 1."""
        return f"{subnet(self.offset)}.{10 + number}"

    def init(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `vcha init`, without a terminal."""
        settings = {
            "node.directory": self.directory,
            "network.ha_address": self.ha_address(1),
            "network.ha_prefix": 24,
            "network.public_address": self.public,
            "network.public_prefix": 24,
        }
        given = [f"--set={key}={value}" for key, value in settings.items()]
        empty = self.directory.parent / "openvcha.toml"
        empty.touch()
        return vcha("init", "--loopback", "--json", f"--config={empty}", *given, *options)

    def made(self, *options: str) -> dict[str, Any]:
        """Run it, and return what it prints. It must succeed."""
        done = self.init(*options)
        assert done.returncode == 0, (done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def start(self, directory: Path | None = None) -> None:
        """Start a node, by default the first one."""
        root = directory or self.directory
        command = [sys.executable, "-m", "openvcha", "node", "run", str(root)]
        self.processes[root] = subprocess.Popen(command)

    def end(self) -> None:
        """Kill all nodes."""
        for directory, process in self.processes.items():
            asyncio.run(NodeProcesses().kill(directory))
            process.kill()
            process.wait()

    def call(self, password: str, path: str, body: Any) -> Any:
        """Call the API as the Administrator, by GET without a body; None while it is down."""

        async def ask() -> Any:
            async with (
                ApiClient(self.server, trust.tls_by_authority(self.ca)) as api,
                api.session(ADMINISTRATOR, Secret(password)),
            ):
                return await api.call("GET" if body is None else "POST", path, body)

        with contextlib.suppress(ServerUnreachable):
            return asyncio.run(ask())
        return None

    def active(self, password: str) -> dict[str, Any] | None:
        """Return what the API says of the active; None while it does not serve."""
        with contextlib.suppress(RequestRefused):
            path = "/vcenter/vcha/cluster/active?action=get"
            found: dict[str, Any] | None = self.call(password, path, {"partial": True})
            return found
        return None

    def connect(self, user: str, password: str, database: str) -> psycopg.Connection[Any]:
        """Connect to the database at the public address."""
        settings: dict[str, Any] = {
            "host": self.public,
            "user": user,
            "password": password,
            "dbname": database,
            "connect_timeout": 5,
            **trusting(self.ca, "verify-full"),
        }
        return psycopg.connect(**settings, autocommit=True)

    def reaches(self, *login: str) -> bool:
        """Return whether a user can connect to a primary there."""
        with contextlib.suppress(psycopg.Error), self.connect(*login) as connection:
            row = connection.execute("select not pg_is_in_recovery()").fetchone()
            return bool(row and row[0])
        return False


def vcha(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "openvcha", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
