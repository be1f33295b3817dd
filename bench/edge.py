"""What strangers and greedy callers cost the cluster: all attacks at once on a real lab.

1,050 idle TLS connections, 16 that send 1 MiB bodies by JSON-RPC without a session, 40 that log in
with wrong passwords, and a reader with 64 connections that list the hosts; each for as long, from
processes on the same machine, which take their part of its processors: how much is printed.
Meanwhile a writer inserts a row every 10 ms through the public address, an administrator reads by a
session, and logs in newly every few seconds. The same is measured before, without an attack.
Usage: ./dev bench edge [SECONDS [NICENESS]]

With a NICENESS the attackers yield to the cluster, as if most of their work were done elsewhere;
without one they do not.
"""

import asyncio
import contextlib
import functools
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx2
from bench.failover import Bench
from bench.figures import distribution, distribution_header, machine
from bench.gap import GapWriter
from bench.lab_up import vcha

from openvcha.lab.state import ADMINISTRATOR, READER

NAME = "bench"
PORT = 8443
OFFICE = "127.0.0.9"
IDLE, BODIES, LOG_INS, READS = 1050, 16, 40, 64
BODY = b"[" + b",".join([b'{"a":1,"a":1}'] * ((1 << 20) // 14)) + b"]"
PACE_SECONDS = 0.05
LOG_IN_SECONDS = 2.0
QUIET_SECONDS = 10
LOST = "this node is not active any more"
SESSION = "vmware-api-session-id"
JSON = {"content-type": "application/json"}
ATTEMPT_SECONDS = 30.0
GRACE_SECONDS = 20


@functools.cache
def trusting() -> ssl.SSLContext:
    """Return what does not look at the certificate; made once, as that takes longer than TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client(host: str, source: str | None = None) -> httpx2.AsyncClient:
    """Return a client with one connection, who does not look at the certificate."""
    limits = httpx2.Limits(max_connections=1, keepalive_expiry=600)
    transport = httpx2.AsyncHTTPTransport(verify=trusting(), limits=limits, local_address=source)
    url = f"https://{host}:{PORT}"
    return httpx2.AsyncClient(transport=transport, base_url=url, timeout=ATTEMPT_SECONDS)


async def idle(host: str, _: str, seen: Counter[str]) -> None:
    """Hold a connection without a word; come again when it is cut off."""
    reader, writer = await asyncio.open_connection(host, PORT, ssl=trusting())
    seen["connected"] += 1
    try:
        await reader.read()
        seen["cut off"] += 1
    finally:
        writer.close()


async def bodies(host: str, _: str, seen: Counter[str]) -> None:
    """Send a body that takes seconds to parse."""
    async with client(host) as stranger:
        while True:
            reply = await stranger.post("/api", content=BODY, headers=JSON)
            # By JSON-RPC an error comes with 200.
            refused = "error" in reply.json()
            seen[f"{reply.status_code} {'refused' if refused else 'answered'}"] += 1


async def log_ins(host: str, _: str, seen: Counter[str]) -> None:
    """Try passwords."""
    async with client(host) as stranger:
        while True:
            name = uuid.uuid4().hex
            reply = await stranger.post("/api/session", auth=(name, "wrong-password"))
            seen[f"{reply.status_code}"] += 1


async def reads(host: str, token: str, seen: Counter[str]) -> None:
    """List the hosts without a pause."""
    async with client(host) as reader:
        while True:
            reply = await reader.get("/api/vcenter/host", headers={SESSION: token})
            seen[f"{reply.status_code}"] += 1


Attack = Callable[[str, str, Counter[str]], Awaitable[None]]
ATTACKS: Mapping[str, tuple[Attack, int]] = MappingProxyType(
    {
        "idle": (idle, IDLE),
        "bodies": (bodies, BODIES),
        "log-ins": (log_ins, LOG_INS),
        "reads": (reads, READS),
    }
)


async def attack(name: str, host: str, token: str, seconds: float) -> None:
    """Carry one attack out, whatever becomes of its connections, and end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    one, count = ATTACKS[name]
    seen: Counter[str] = Counter()

    async def again() -> None:
        while True:
            try:
                await one(host, token, seen)
            except (OSError, httpx2.TransportError) as failure:
                seen[type(failure).__name__] += 1
            await asyncio.sleep(PACE_SECONDS)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(again() for _ in range(count)))
    print(f"attack {name} over {count} connections: {dict(seen)}", flush=True)


@contextlib.contextmanager
def attacked(host: str, token: str, seconds: float) -> Iterator[None]:
    """Have all attacks at once during a block; they end by themselves."""
    command = [sys.executable, "-m", "bench.edge", "attack"]
    running = [subprocess.Popen([*command, name, host, token, str(seconds)]) for name in ATTACKS]
    try:
        yield
    finally:
        for each in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(GRACE_SECONDS)
            each.kill()
            each.wait()


@dataclass
class Seen:
    """What the administrator met: seconds for each answer, and what was none."""

    reads: list[float] = field(default_factory=list)
    log_ins: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


async def work(host: str, token: str, password: str, seconds: float) -> Seen:
    """Read by the session all the time, and log in newly every few seconds."""
    seen = Seen()

    async def timed(into: list[float], what: str, call: Awaitable[httpx2.Response]) -> None:
        begun = time.monotonic()
        try:
            reply = await call
        except httpx2.TransportError as error:
            seen.failures[f"{what}: {type(error).__name__}"] += 1
            return
        if reply.is_success:
            into.append(time.monotonic() - begun)
        else:
            seen.failures[f"{what}: {reply.status_code}"] += 1

    async def read() -> None:
        async with client(host, OFFICE) as own:
            while True:
                path = "/api/vcenter/vcha/cluster/mode"
                await timed(seen.reads, "read", own.get(path, headers={SESSION: token}))
                await asyncio.sleep(PACE_SECONDS)

    async def log_in() -> None:
        while True:
            async with client(host, OFFICE) as new:
                call = new.post("/api/session", auth=(ADMINISTRATOR, password))
                await timed(seen.log_ins, "log-in", call)
            await asyncio.sleep(LOG_IN_SECONDS)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(read(), log_in())
    return seen


def duties_lost(bench: Bench) -> int:
    """Count the lines of the nodes' logs that say that one has stopped being the active."""
    return sum(
        path.read_text(errors="replace").count(LOST)
        for node in bench.data_nodes()
        for path in node.root.rglob("*.log")
    )


def told(bench: Bench) -> Counter[str]:
    """Count the events of the cluster by their kind."""
    found = bench.http.get("/openvcha/events")
    if found.status_code != 200:
        raise SystemExit(found.text)
    return Counter(str(event["type"]) for event in found.json())


def measure(bench: Bench, seconds: float) -> None:
    """Measure without an attack, and with all of them, and print both."""
    host = bench.lab.state().public_address
    token = bench.http.headers[SESSION]
    auth = (READER, bench.passwords[READER])
    reader = bench.http.post("/session", auth=auth, headers={SESSION: ""})
    password = bench.passwords[ADMINISTRATOR]
    with GapWriter(bench.public(), f"w{uuid.uuid4().hex[:8]}") as writer:
        print(distribution_header())
        writer.begin()
        show("at rest", asyncio.run(work(host, token, password, QUIET_SECONDS)), writer)
        lost, events = duties_lost(bench), told(bench)
        writer.begin()
        with attacked(host, reader.json(), seconds):
            seen = asyncio.run(work(host, token, password, seconds))
        show("attacked", seen, writer)
        time.sleep(QUIET_SECONDS)
        print(f"duty lost {duties_lost(bench) - lost} times; events {dict(told(bench) - events)}")
        print(f"{len(writer.acknowledged)} rows acknowledged, {len(writer.missing())} lost")


def show(when: str, seen: Seen, writer: GapWriter) -> None:
    """Print what was met."""
    gap = writer.gap()
    for name, values in (("reads", seen.reads), ("new log-ins", seen.log_ins)):
        if values:
            print(distribution(f"{when}: {name} of an administrator", values))
            print(f"  p99 {sorted(values)[len(values) * 99 // 100]:.3f} s")
    print(f"{when}: longest gap at the database {gap:.2f} s; failures {dict(seen.failures)}")


def main(seconds: float) -> None:
    """Measure and print."""
    print(machine(), f"- load {os.getloadavg()[0]:.1f}, {seconds:.0f} s of all attacks", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        measure(Bench(base), seconds)
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        asyncio.run(attack(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
