"""What an idle cluster costs: processor time, memory, and the requests to the store, by node.

A lab, HEALTHY, without any client. Each program's processor time includes that of its children
that ended meanwhile, such as PostgreSQL's sessions. etcd counts the requests, on the member that
received them. Beside that the floor: three members of etcd that nobody asks anything, with the same
settings and with etcd's defaults.
Labs that run already are measured side by side, in the same seconds, so that two versions can be
compared on a busy machine.
Usage: ./dev bench idle [SECONDS [DIRECTORY…]]   (DIRECTORY: that of a running lab)
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec
from bench.figures import machine
from bench.lab_up import vcha

from openvcha.lab.state import Lab
from openvcha.node.engines import find_engines
from openvcha.node.etcd.member import client_url, etcd_argv, peer_url
from openvcha.node.identity import Identity, load_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.process.process_tree import Process, find_tree
from openvcha.node.process.spawn import engine_environment
from openvcha.store.etcd.member_pages import MemberHealth, read_health
from openvcha.store.http.client import split
from openvcha.system.proc import PROC

NAME = "bench"
SETTLE_SECONDS = 30.0
START_SECONDS = 60.0
FLOOR_PORTS = 3000
TICKS = os.sysconf("SC_CLK_TCK")
OWN_AND_CHILDREN = slice(11, 15)
"""The processor times in the fields of /proc/PID/stat that follow the name."""
PROGRAMS = ("etcd", "patroni", "postgres", "service", "api", "supervisor", "reaper")
REQUESTS = "grpc_server_handled_total"
COUNTS = {
    "fsyncs": "etcd_disk_wal_fsync_duration_seconds_count",
    "proposals": "etcd_server_proposals_committed_total",
    "health pages": "etcd_server_health_success",
}


@dataclass(frozen=True)
class Node:
    """A node of a lab; ``role`` is what it is to the cluster."""

    layout: Layout
    identity: Identity
    role: str


@dataclass(frozen=True)
class Sample:
    """Processor seconds and wake-ups by program, and counts of the store's member."""

    time: float
    cpu: Mapping[str, float]
    wakes: Counter[str]
    store: Counter[str]


def nodes_of(infrastructure: Path) -> list[Node]:
    """Return the nodes of a lab, the active first."""
    found = []
    for path in infrastructure.glob("datastores/*/*/node.json"):
        layout, identity = Layout(path.parent), load_identity(path.parent)
        kept = load_kept(layout, identity)
        if kept is not None and find_tree(layout.root):
            found.append(Node(layout, identity, str(kept.role)))
    return sorted(found, key=lambda node: node.role)


def program(process: Process) -> str:
    """Return which program of a node this is."""
    line = " ".join(process.argv)
    marks = {
        "etcd": "etcd --name",
        "patroni": "patroni.launcher",
        "service": "node service",
        "api": "node api",
        "supervisor": "node run",
        "reaper": "reaper",
    }
    return next((name for name, mark in marks.items() if mark in line), "postgres")


def sample(node: Node) -> Sample:
    """Read all counters of a node."""
    cpu, wakes = defaultdict[str, float](float), Counter[str]()
    for process in find_tree(node.layout.root):
        name = program(process)
        with contextlib.suppress(OSError):
            cpu[name] += cpu_seconds(process.pid)
            wakes[name] += switches(process.pid)
    return Sample(time.monotonic(), cpu, wakes, store_counts(node))


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[OWN_AND_CHILDREN])) / TICKS


def switches(pid: int) -> int:
    """Return how often the threads of a process have begun to wait."""
    found = (PROC / str(pid) / "task").glob("*/status")
    lines = (line for path in found for line in path.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def memory(node: Node) -> float:
    """Return a node's memory in MB; what processes share counts once."""
    total = 0
    for process in find_tree(node.layout.root):
        with contextlib.suppress(OSError):
            text = (PROC / str(process.pid) / "smaps_rollup").read_text()
            total += next(int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:"))
    return total / 1024


def store_counts(node: Node) -> Counter[str]:
    """Return the requests by method, and other counts, of a node's member of the store."""
    found = Counter[str]()
    for line in page(node, "/metrics").splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith(REQUESTS):
            found[name.partition('grpc_method="')[2].partition('"')[0]] += int(float(value))
        for label, count in COUNTS.items():
            if name == count:
                found[label] = int(float(value))
    return found


def page(node: Node, path: str) -> str:
    """Return a page of the node's member of the store."""
    where = client_url(node.identity) + path
    context = node.layout.client_context()
    return httpx2.get(where, verify=context, trust_env=False, timeout=5).text


def measure(nodes: Sequence[Node], seconds: float) -> list[tuple[Sample, Sample]]:
    """Return the counters of all nodes before and after some seconds."""
    before = [sample(node) for node in nodes]
    time.sleep(seconds)
    return [(then, sample(node)) for then, node in zip(before, nodes, strict=True)]


def show(nodes: Sequence[Node], found: Sequence[tuple[Sample, Sample]]) -> None:
    """Print the processor time, the wake-ups, the memory and the requests."""
    heads = [node.role for node in nodes]
    print("etcd", page(nodes[0], "/version"))
    print("\n% of one core" + " " * 12 + "".join(f"{head:>12}" for head in heads))
    shares = [rates(then.cpu, now.cpu, now.time - then.time, 100) for then, now in found]
    for name in PROGRAMS:
        line(name, [share.get(name, 0.0) for share in shares])
    line("together", [sum(share.values()) for share in shares])
    print("wake-ups a second")
    woken = [rates(then.wakes, now.wakes, now.time - then.time) for then, now in found]
    for name in PROGRAMS:
        line(name, [each.get(name, 0.0) for each in woken])
    line("memory (MB)", [memory(node) for node in nodes])
    print("at the store, a second")
    asked = [rates(then.store, now.store, now.time - then.time) for then, now in found]
    for name in sorted({name for each in asked for name, rate in each.items() if rate >= 0.01}):
        line(name, [each.get(name, 0.0) for each in asked])
    line("requests", [sum(v for k, v in each.items() if k not in COUNTS) for each in asked])


def rates(
    then: Mapping[str, float], now: Mapping[str, float], seconds: float, factor: float = 1
) -> dict[str, float]:
    """Return the growth of each count per second, times ``factor``."""
    return {name: (value - then.get(name, 0)) / seconds * factor for name, value in now.items()}


def line(name: str, values: Sequence[float]) -> None:
    """Print a row with a value for each node."""
    print(f"  {name:<23}" + "".join(f"{value:12.2f}" for value in values))


def floor(nodes: Sequence[Node], seconds: float) -> None:
    """Print what the same members of etcd cost without any client, with our settings and etcd's."""
    base = Path(tempfile.mkdtemp(prefix="openvcha-floor-"))
    try:
        for label, plain in (("with our settings", False), ("with etcd's defaults", True)):
            with alone(base / label.split()[1], nodes, plain=plain) as members:
                time.sleep(SETTLE_SECONDS / 3)
                before = [cpu_seconds(each.pid) for each in members]
                time.sleep(seconds)
                after = [cpu_seconds(each.pid) for each in members]
            taken = [(b - a) / seconds * 100 for a, b in zip(before, after, strict=True)]
            print(f"\netcd alone, {label}, % of one core of each member, the leader first")
            line("etcd", sorted(taken, reverse=True))
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def alone(
    base: Path, nodes: Sequence[Node], *, plain: bool
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run members of etcd beside those of the nodes, at other ports, with their certificates."""
    moved = [beside(node.identity, nodes) for node in nodes]
    members: list[subprocess.Popen[bytes]] = []
    base.mkdir()
    try:
        for node, identity in zip(nodes, moved, strict=True):
            argv = etcd_argv(find_engines().etcd.path, identity, node.layout)
            data = f"--data-dir={base / identity.member}"
            argv = [data if one.startswith("--data-dir=") else one for one in argv]
            if plain:
                argv = [one for one in argv if not one.startswith(("--heartbeat", "--election"))]
            environment = engine_environment(os.environ, base)
            quiet = subprocess.DEVNULL
            members.append(subprocess.Popen(argv, env=environment, stdout=quiet, stderr=quiet))
        await_health([Node(n.layout, i, "") for n, i in zip(nodes, moved, strict=True)])
        yield members
    finally:
        for member in members:
            member.terminate()
        for member in members:
            member.wait()


def beside(identity: Identity, nodes: Sequence[Node]) -> Identity:
    """Return the identity of a member at other ports, in a new store."""
    ports = msgspec.structs.replace(
        identity.ports,
        etcd_client=identity.ports.etcd_client + FLOOR_PORTS,
        etcd_peer=identity.ports.etcd_peer + FLOOR_PORTS,
    )
    new = msgspec.structs.replace(identity, ports=ports, etcd_state="new")
    peers = {
        node.identity.member: peer_url(msgspec.structs.replace(node.identity, ports=ports))
        for node in nodes
    }
    return msgspec.structs.replace(new, etcd_initial_cluster=peers)


def await_health(nodes: Sequence[Node]) -> None:
    """Wait until all members have a quorum."""
    deadline = time.monotonic() + START_SECONDS
    for node in nodes:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if read_health(page(node, "/health").encode()) is MemberHealth.HEALTHY:
                    break
            if time.monotonic() > deadline:
                raise SystemExit(f"no quorum at {split(client_url(node.identity))[0].name}")
            time.sleep(0.2)


def main(seconds: float, labs: Sequence[Path]) -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    print(machine(), f"- load {os.getloadavg()[0]:.1f}, {seconds:.0f} s", flush=True)
    if labs:
        each = [nodes_of(Lab(path).infrastructure) for path in labs]
        found = measure([node for nodes in each for node in nodes], seconds)
        for path, nodes in zip(labs, each, strict=True):
            print(f"\n{path}")
            show(nodes, found[: len(nodes)])
            found = found[len(nodes) :]
        return
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        vcha("lab", "up", "--name", NAME, "--dir", str(base))
        time.sleep(SETTLE_SECONDS)
        nodes = nodes_of(Lab(base / NAME).infrastructure)
        show(nodes, measure(nodes, seconds))
        floor(nodes, seconds)
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 60.0,
        [Path(path).absolute() for path in sys.argv[2:]],
    )
