"""Plain Patroni for comparison: two instances with a lab's configuration, beside it in its etcd.

Only these differ from the lab: the scope, the ports, the directories, and that Patroni is started
unmodified (``python -m patroni``), without openvcha around it and without its shortened waits. Its
first copy, which is not measured, requests an immediate checkpoint.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from openvcha.node.identity import load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.own_names import APPLICATION_DATABASE, APPLICATION_USER
from openvcha.system.accounts.privileges import drop_root

SCOPE = "plain"
PORT_OFFSET = 1000
START_SECONDS = 180.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1


class PlainPatroni:
    """A cluster of two, derived from the directories of a lab's data nodes."""

    def __init__(self, directory: Path, nodes: Sequence[Layout]) -> None:
        self._directory = directory
        self._nodes = nodes
        self._processes: list[subprocess.Popen[bytes]] = []
        self._http = httpx2.Client(verify=nodes[0].client_context(), trust_env=False)
        self.configs = [directory / f"{number}.yml" for number in range(len(nodes))]

    def __enter__(self) -> Self:
        """Start both instances, and wait until the second may take over."""
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def _begin(self) -> None:
        self._directory.mkdir(mode=0o700)
        for node, config in zip(self._nodes, self.configs, strict=True):
            config.touch(mode=0o600)
            config.write_text(json.dumps(self._config(node), indent=1))
        for config in self.configs:
            self._processes.append(self._start(config))
            self._until(lambda: self.leader() is not None)
        self._until(lambda: self.candidate() is not None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop both instances."""
        self._end()

    def _end(self) -> None:
        """Stop both instances, and PostgreSQL itself if Patroni does not stop it."""
        self._http.close()
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process, config in zip(self._processes, self.configs, strict=False):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                _end_postgres(config)

    def leader(self) -> str | None:
        """Return the name of the leader."""
        return self._member("leader", "running")

    def candidate(self) -> str | None:
        """Return the name of the member that may take over without loss."""
        return self._member("sync_standby", "streaming")

    def switch(self) -> None:
        """Run ``patronictl switchover`` like an operator, and wait until it may run again."""
        leader, candidate = self.leader(), self.candidate()
        if leader is None or candidate is None:
            raise SystemExit("the plain Patronis are not ready for a switchover")
        self._ctl("switchover", SCOPE, "--leader", leader, "--candidate", candidate, "--force")
        self._until(lambda: self.candidate() == leader)

    def database(self) -> dict[str, str]:
        """Return libpq's parameters for both hosts, connecting to the one that accepts writes."""
        places = [load_identity(node.root) for node in self._nodes]
        # Only the node that created the database knows its password.
        known = (load_secrets(node.root).application for node in self._nodes)
        password = next(found for found in known if found).reveal()
        ports = [str(place.ports.postgres + PORT_OFFSET) for place in places]
        return {
            "host": ",".join(place.ha_address for place in places),
            "port": ",".join(ports),
            "user": APPLICATION_USER,
            "dbname": APPLICATION_DATABASE,
            "password": password,
            "target_session_attrs": "read-write",
        }

    def _config(self, node: Layout) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(node.patroni_config.read_text())
        home = self._directory / config["name"]
        home.mkdir(mode=0o700)
        config["scope"] = SCOPE
        for section in (config["restapi"], config["postgresql"]):
            host, _, port = section["listen"].rpartition(":")
            place = f"{host}:{int(port) + PORT_OFFSET}"
            section["listen"] = section["connect_address"] = place
        config["postgresql"]["data_dir"] = str(home / "pgdata")
        config["postgresql"]["basebackup"] = [{"checkpoint": "fast"}]
        config["postgresql"]["pgpass"] = str(home / "pgpass")
        config["postgresql"]["parameters"]["log_directory"] = str(home)
        return config

    def _start(self, config: Path) -> subprocess.Popen[bytes]:
        with config.with_suffix(".log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bench.plain_patroni", str(config)], stdout=log, stderr=log
            )

    def _member(self, role: str, state: str) -> str | None:
        place = load_identity(self._nodes[0].root)
        url = f"https://{place.ha_address}:{place.ports.patroni + PORT_OFFSET}/cluster"
        try:
            found = self._http.get(url).json()["members"]
        except httpx2.TransportError:
            return None
        names = [m["name"] for m in found if (m["role"], m["state"]) == (role, state)]
        return str(names[0]) if names else None

    def _ctl(self, *arguments: str) -> None:
        program = shutil.which("patronictl") or "patronictl"
        done = subprocess.run(
            [program, "-c", str(self.configs[0]), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"patronictl {arguments[0]}: {done.stdout}{done.stderr}")

    def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"the plain Patronis did not start: see {self._directory}")
            time.sleep(POLL_SECONDS)


def _end_postgres(config: Path) -> None:
    """End a PostgreSQL whose Patroni is gone, at once; its pid file's first line is its id."""
    data = Path(json.loads(config.read_text())["postgresql"]["data_dir"])
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def main(config: str) -> None:
    """Run plain Patroni, not as root, since PostgreSQL refuses that."""

    def require(_: Path, *, changes_owner: bool) -> None:
        if changes_owner:
            Path(config).stat()

    drop_root([sys.executable, "-m", "bench.plain_patroni", config], Path(config).parent, require)
    os.execv(sys.executable, [sys.executable, "-m", "patroni", config])  # noqa: S606 - the peer itself


if __name__ == "__main__":
    main(sys.argv[1])
