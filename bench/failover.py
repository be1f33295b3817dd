"""The gap that a client sees in a planned failover, compared with plain Patroni in the same run.

In each run openvcha fails over through its API, and two plain Patroni instances with the same
configuration, in the same etcd, through ``patronictl switchover``. Writers insert a row every
10 ms: into openvcha through its public address, and through libpq with both hosts and
``target_session_attrs=read-write``; into plain Patroni through libpq with both hosts, as it has no
public address. After each run every acknowledged row must exist. No run begins after
``BUDGET_SECONDS``; at the end, even after a signal, nothing is left behind.
Usage: ./dev bench failover [RUNS]
"""

import contextlib
import json
import shutil
import signal
import ssl
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from bench.figures import distribution, distribution_header, machine
from bench.gap import GapWriter
from bench.lab_up import vcha
from bench.plain_patroni import PlainPatroni

from openvcha.lab.state import ADMINISTRATOR, Lab
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout

NAME = "bench"
POLL_SECONDS = 0.1
TASK_SECONDS = 120.0
BUDGET_SECONDS = 540.0
QUIET_SECONDS = 2.0
FAILOVER = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
GET = "/vcenter/vcha/cluster?action=get"


class Bench:
    """One lab, as its clients see it."""

    def __init__(self, base: Path) -> None:
        vcha("lab", "up", "--name", NAME, "--dir", str(base))
        self.lab = Lab(base / NAME)
        self.passwords = json.loads(self.lab.passwords_file.read_text())
        context = ssl.create_default_context(cafile=self.lab.ca)
        api = f"https://{self.lab.state().public_address}:8443/api"
        self.http = httpx2.Client(base_url=api, verify=context, timeout=30)
        token = self.http.post("/session", auth=(ADMINISTRATOR, self.passwords[ADMINISTRATOR]))
        self.http.headers["vmware-api-session-id"] = token.json()

    def data_nodes(self) -> list[Layout]:
        """Return the directories of both data nodes."""
        found = [p.parent for p in self.lab.infrastructure.glob("datastores/*/*/node.json")]
        return [Layout(path) for path in sorted(found) if load_identity(path).holds_data]

    def public(self) -> dict[str, str]:
        """Return libpq's parameters for the public address."""
        address = self.lab.state().public_address
        return {
            "host": address,
            "dbname": "app",
            "user": "app",
            "password": self.passwords["app"],
        }

    def both(self) -> dict[str, str]:
        """Return libpq's parameters for both hosts, connecting to the one that accepts writes."""
        hosts = ",".join(load_identity(node.root).ha_address for node in self.data_nodes())
        return {**self.public(), "host": hosts, "target_session_attrs": "read-write"}

    def fail_over(self) -> None:
        """Run a planned failover, and wait until its task has ended and the cluster is HEALTHY."""
        reply = self.http.post(FAILOVER, json={"planned": True})
        if reply.status_code != 202:
            raise SystemExit(reply.text)
        info = self.patiently("GET", f"/cis/tasks/{reply.json()}", "status", {"PENDING", "RUNNING"})
        if info["status"] != "SUCCEEDED":
            raise SystemExit(json.dumps(info, indent=1))
        self.patiently("POST", GET, "health_state", {"DEGRADED"})

    def patiently(self, method: str, path: str, field: str, unfinished: set[str]) -> dict[str, Any]:
        """Poll until the field has another value, even while no node serves the API."""
        deadline = time.monotonic() + TASK_SECONDS
        body = {"partial": True} if method == "POST" else None
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                found = self.http.request(method, path, json=body)
                if found.status_code == 200 and found.json()[field] not in unfinished:
                    return dict(found.json())
            time.sleep(POLL_SECONDS)
        raise SystemExit(f"{path} did not end")


def run(bench: Bench, plain: PlainPatroni, writers: dict[str, GapWriter]) -> dict[str, float]:
    """Fail over openvcha, then plain Patroni, and return the gap that each writer saw."""
    for writer in writers.values():
        writer.begin()
    time.sleep(QUIET_SECONDS)
    begun = time.monotonic()
    bench.fail_over()
    taken = time.monotonic() - begun
    gaps = {name: writer.gap() for name, writer in writers.items() if name != "plain"}
    writers["plain"].begin()
    time.sleep(QUIET_SECONDS)
    plain.switch()
    gaps["plain"] = writers["plain"].gap()
    return {**gaps, "healthy": taken}


@dataclass
class Measured:
    """The results: each run's gaps in seconds, by writer, and the outcome of all rows."""

    gaps: list[dict[str, float]] = field(default_factory=list)
    rows: int = 0
    lost: int = 0


def measure(base: Path, runs: int) -> Measured:
    """Create a lab with plain Patroni beside it, and fail over; a lost row ends the measurement."""
    found = Measured()
    bench = Bench(base)
    table = f"w{uuid.uuid4().hex[:8]}"
    with (
        PlainPatroni(base / "plain", bench.data_nodes()) as plain,
        GapWriter(bench.public(), f"{table}_a") as public,
        GapWriter(bench.both(), f"{table}_b") as both,
        GapWriter(plain.database(), f"{table}_c") as beside,
    ):
        writers = {"public": public, "both": both, "plain": beside}
        last = time.monotonic() + BUDGET_SECONDS
        while len(found.gaps) < runs and not found.lost and time.monotonic() < last:
            found.gaps.append(run(bench, plain, writers))
            gaps = ", ".join(f"{name} {gap:.2f} s" for name, gap in found.gaps[-1].items())
            print(f"run {len(found.gaps)}: {gaps}", file=sys.stderr, flush=True)
            found.rows = sum(len(writer.acknowledged) for writer in writers.values())
            found.lost = sum(len(writer.missing()) for writer in writers.values())
    return found


def main(runs: int) -> None:
    """Measure and print."""
    print(machine(), f"- {runs} runs", flush=True)
    # A signal ends it like an error: everything is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        found = measure(base, runs)
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)
    print(distribution_header())
    for name, text in (
        ("plain", "plain patronictl switchover, libpq with both hosts"),
        ("both", "openvcha failover, libpq with both hosts"),
        ("public", "openvcha failover, public address"),
        ("healthy", "openvcha failover, until HEALTHY again"),
    ):
        print(distribution(text, [gaps[name] for gaps in found.gaps]))
    print(f"{found.rows} rows acknowledged, {found.lost} of them lost")
    if len(found.gaps) < runs or found.lost:
        raise SystemExit(f"only {len(found.gaps)} of {runs} runs finished, or rows were lost")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
