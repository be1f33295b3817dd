"""What unauthenticated and greedy clients cost the cluster: all attacks at once on a real lab.

The attacks are those of ``bench/edge_attacks.py``, from processes on the same machine, which take
their share of its CPU: the output says how much. Meanwhile a writer inserts a row every 10 ms
through the public address, and an administrator reads in one session and logs in again every few
seconds. The same is measured first without an attack.
Usage: ./dev bench edge [SECONDS [NICENESS]]

With a NICENESS the attackers yield to the cluster, as if they mostly ran on other machines.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.administrator import Seen, work
from bench.edge_attacks import FLOODER, FLOODER_PASSWORD, SESSION, Attacked, attacked
from bench.failover import Bench
from bench.figures import distribution, distribution_header, machine, percentile
from bench.gap import GapWriter
from bench.lab_up import vcha

from openvcha.lab.state import ADMINISTRATOR, READER
from openvcha.node.process.process_tree import read_table
from openvcha.system.proc import read_stat

NAME = "bench"
QUIET_SECONDS = 10
BEGUN, LOST = "this node is active", "this node is no longer active"


def active_roles_lost(nodes: Iterable[Path]) -> int:
    """Count the lines in the nodes' logs that report the loss of the active role."""
    logs = [path for node in nodes for path in node.glob("logs/service.jsonl*")]
    texts = [path.read_text(errors="replace") for path in logs]
    if not any(BEGUN in text for text in texts):
        raise SystemExit("the logs do not show which node is active")
    return sum(text.count(LOST) for text in texts)


def told(bench: Bench) -> Counter[str]:
    """Count the cluster's events by type."""
    found = bench.http.get("/openvcha/events")
    if found.status_code != 200:
        raise SystemExit(found.text)
    return Counter(str(event["type"]) for event in found.json())


def cpu_of_lab(base: Path) -> dict[str, float]:
    """Return the CPU seconds that the API and the other programs of a lab have used."""
    taken = {"the API": 0.0, "the other programs": 0.0}
    for pid, process in read_table().items():
        if str(base) in " ".join(process.argv) and (stat := read_stat(pid)):
            ticks = stat.user_ticks + stat.system_ticks
            part = "the API" if "api" in process.argv else "the other programs"
            taken[part] += ticks / os.sysconf("SC_CLK_TCK")
    return taken


def measure(bench: Bench, base: Path, seconds: float, niceness: int) -> None:
    """Measure without an attack and then with all attacks, and print both."""
    host = bench.lab.state().public_address
    token = bench.http.headers[SESSION]
    auth = (READER, bench.passwords[READER])
    reader = bench.http.post("/session", auth=auth, headers={SESSION: ""})
    own = (ADMINISTRATOR, bench.passwords[ADMINISTRATOR])
    password = base / "flooder"
    password.write_text(FLOODER_PASSWORD)
    names = ("--name", NAME, "--dir", str(base))
    vcha("user", "add", FLOODER, "--role", "NoAccess", "--password-file", str(password), *names)
    nodes = [node.root for node in bench.data_nodes()]
    with GapWriter(bench.public(), f"w{uuid.uuid4().hex[:8]}") as writer:
        print(distribution_header())
        writer.begin()
        show("at rest", asyncio.run(work(host, token, own, QUIET_SECONDS)), writer)
        lost, events, before = active_roles_lost(nodes), told(bench), cpu_of_lab(base)
        writer.begin()
        begun = time.monotonic()
        with attacked(host, reader.json(), seconds, niceness=niceness) as attack:
            seen = asyncio.run(work(host, token, own, seconds))
            show("attacked", seen, writer)
            taken = {who: total - before[who] for who, total in cpu_of_lab(base).items()}
            lasted = time.monotonic() - begun
        show_attack(attack, taken, lasted)
        time.sleep(QUIET_SECONDS)
        more = active_roles_lost(nodes) - lost
        print(f"active role lost {more} times; events {dict(told(bench) - events)}")
        print(f"{len(writer.acknowledged)} rows acknowledged, {len(writer.missing())} lost")


def show(when: str, seen: Seen, writer: GapWriter) -> None:
    """Print what the administrator and the writer saw."""
    gap = writer.gap()
    for name, values in (("reads", seen.reads), ("new logins", seen.log_ins)):
        if values:
            print(distribution(f"{when}: {name} of an administrator", values))
            print(f"  p99 {percentile(values, 99):.3f} s")
    print(f"{when}: longest gap at the database {gap:.2f} s; failures {dict(seen.failures)}")


def show_attack(attack: Attacked, taken: Mapping[str, float], seconds: float) -> None:
    """Print the replies to the attackers, and who used the CPU meanwhile."""
    for name, answers in attack.answers.items():
        print(f"attack {name}: {dict(answers)}")
    there = seconds * (os.cpu_count() or 1)
    shares = {"the attackers": attack.cpu, **taken}
    print("processors: " + ", ".join(f"{who} {of / there:.0%}" for who, of in shares.items()))


def main(seconds: float, niceness: int) -> None:
    """Measure and print."""
    load = os.getloadavg()[0]
    print(machine(), f"- load {load:.1f}, {seconds:.0f} s of all attacks", flush=True)
    print(f"niceness of the attackers {niceness}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        measure(Bench(base), base, seconds, niceness)
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 60.0,
        int(sys.argv[2]) if len(sys.argv) > 2 else 0,
    )
