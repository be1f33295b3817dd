"""Redeploy, compared with a raw copy of the same data in the same run.

Each round measures, on one lab filled by pgbench: a raw `pg_basebackup -X stream -c fast` from the
active, then the destruction of the passive and its redeploy through the API until HEALTHY. The
difference is the overhead of the repair. Usage: ./dev bench redeploy [GB] [ROUNDS]
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
from bench.figures import header, machine, row
from bench.lab_up import vcha

from openvcha.lab.state import ADMINISTRATOR, Lab
from openvcha.node.engines import find_engines
from openvcha.node.identity import load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.own_names import REPLICATION_USER

NAME = "bench"
SCALE_PER_GB = 68
POLL_SECONDS = 0.02
NOTICE_SECONDS = 60.0
TASK_SECONDS = 1800.0


class Bench:
    """One lab with data in it."""

    def __init__(self, base: Path) -> None:
        self.where = ["--name", NAME, "--dir", str(base)]
        vcha("lab", "up", *self.where)
        self.lab = Lab(base / NAME)
        address = self.lab.state().public_address
        self.passwords = json.loads(self.lab.passwords_file.read_text())
        self.address = address
        context = ssl.create_default_context(cafile=self.lab.ca)
        self.http = httpx2.Client(
            base_url=f"https://{address}:8443/api", verify=context, timeout=30
        )
        token = self.http.post("/session", auth=(ADMINISTRATOR, self.passwords[ADMINISTRATOR]))
        self.http.headers["vmware-api-session-id"] = token.json()
        self.bin_dir = find_engines().postgres.bin_dir

    def fill(self, gigabytes: float) -> None:
        """Fill pgbench's tables through the public address."""
        scale = max(1, round(gigabytes * SCALE_PER_GB))
        subprocess.run(
            [
                str(self.bin_dir / "pgbench"),
                *f"-i -q -s {scale} -h {self.address} -U app app".split(),
            ],
            env={**os.environ, "PGPASSWORD": self.passwords["app"], "PGSSLMODE": "require"},
            check=True,
            capture_output=True,
        )

    def active(self) -> Layout:
        """Return the directory of the active node."""
        nodes = self.lab.infrastructure.glob("datastores/*/*/node.json")
        address = self.cluster()["ha_address"]
        return Layout(
            next(p.parent for p in nodes if load_identity(p.parent).ha_address == address)
        )

    def cluster(self) -> dict[str, Any]:
        """Return the health and the active node's HA address."""
        info = self.http.post("/vcenter/vcha/cluster?action=get", json={"partial": True}).json()
        active = next(
            info[name] for name in ("node1", "node2") if info[name]["runtime"]["role"] == "ACTIVE"
        )
        address = active["ha_ip"]["ipv4"]["address"]
        return {"health": info["health_state"], "ha_address": address}

    def raw_copy(self) -> float:
        """Measure pg_basebackup of the same data to the same file system, in seconds."""
        layout = self.active()
        target = self.lab.directory / "raw"
        begun = time.monotonic()
        subprocess.run(
            [
                str(self.bin_dir / "pg_basebackup"),
                *["-X", "stream", "-c", "fast", "-D"],
                str(target),
                *("-h", load_identity(layout.root).ha_address, "-U", REPLICATION_USER),
            ],
            env={
                **os.environ,
                "PGPASSWORD": load_secrets(layout.root).replication.reveal(),
                "PGSSLMODE": "verify-ca",
                "PGSSLROOTCERT": str(layout.service_ca),
                "PGSSLCERT": str(layout.certificate),
                "PGSSLKEY": str(layout.key),
            },
            check=True,
            capture_output=True,
        )
        taken = time.monotonic() - begun
        shutil.rmtree(target)
        return taken

    def redeploy(self, name: str) -> tuple[float, dict[str, float]]:
        """Destroy the passive and measure its repair, with the duration of each step."""
        vcha("lab", "destroy", "passive", *self.where)
        lost = time.monotonic()
        while self.cluster()["health"] != "DEGRADED":
            give_up_after(NOTICE_SECONDS, lost, "the cluster did not notice the loss")
            time.sleep(POLL_SECONDS)
        path = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
        begun = time.monotonic()
        placement = {"name": name, "folder": "group-v3"}
        task = self.http.post(path, json={"placement": placement}).json()
        shares = self.follow(task, begun)
        if self.cluster()["health"] != "HEALTHY":
            raise SystemExit("the task ended and the cluster is not HEALTHY")
        return time.monotonic() - begun, shares

    def follow(self, task: str, begun: float) -> dict[str, float]:
        """Follow a task, and return for how many seconds it showed each of its phases."""
        shares: dict[str, float] = {}
        last = begun
        while True:
            info = self.http.get(f"/cis/tasks/{task}").json()
            now = time.monotonic()
            phase = phase_of(info)
            shares[phase] = shares.get(phase, 0.0) + now - last
            last = now
            if info["status"] not in {"PENDING", "RUNNING"}:
                break
            give_up_after(TASK_SECONDS, begun, "the task did not end")
            time.sleep(POLL_SECONDS)
        if info["status"] != "SUCCEEDED":
            raise SystemExit(json.dumps(info, indent=1))
        return shares


def give_up_after(seconds: float, begun: float, why: str) -> None:
    """Abort the measurement if something takes longer than it ever should."""
    if time.monotonic() - begun > seconds:
        raise SystemExit(f"{why}: gave up after {seconds:g} s")


def phase_of(info: dict[str, Any]) -> str:
    """Return the name of a task's step from the message that it shows."""
    if "progress" not in info:
        return "accepted"
    message = info["progress"]["message"]
    name = str(message["id"]).rsplit("vcha.", 1)[-1]
    if name == "task.step":
        return str(message["args"][-1]).split(".", 1)[0]
    parts = name.split(".")
    return (
        {"promote": "clone", "bootstrap": "clone"}.get(parts[1], parts[1])
        if parts[0] == "progress"
        else "settle"
    )


def main(gigabytes: float, rounds: int) -> None:
    """Measure and print."""
    print(machine(), f"- {gigabytes:g} GB of pgbench data, {rounds} rounds")
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        bench = Bench(base)
        bench.fill(gigabytes)
        raw: list[float] = []
        whole: list[float] = []
        shares: dict[str, list[float]] = {}
        for number in range(rounds):
            raw.append(bench.raw_copy())
            taken, found = bench.redeploy(f"bench-{number}")
            whole.append(taken)
            for phase, seconds in found.items():
                shares.setdefault(phase, []).append(seconds)
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)
    print(header())
    print(row("raw pg_basebackup -X stream -c fast", raw))
    print(row("redeploy until HEALTHY", whole))
    print(row("beyond the raw copy", [w - r for w, r in zip(whole, raw, strict=True)]))
    for phase, values in shares.items():
        print(row(f"  share: {phase}", values))


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 1.0,
        int(sys.argv[2]) if len(sys.argv) > 2 else 5,
    )
