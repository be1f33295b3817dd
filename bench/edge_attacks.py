"""Attacks on the API and the database that cost the attacker little, each in its own process.

On the API: 1,050 idle TLS connections, 16 clients that send 1 MiB bodies over JSON-RPC without a
session, 40 that log in with wrong passwords, a reader with 64 connections that lists the hosts, 16
strangers who join without a token, 16 connections of the reader that request what a reader may not
do, and 16 that log in again and again as FLOODER. On the database's public address, from another
source than its users: 520 silent connections, and 195 that stop in the middle of a login. Each
attack ends by itself, and prints the counts of its replies.
"""

import asyncio
import contextlib
import functools
import json
import os
import resource
import ssl
import struct
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import httpx2

ROOT = Path(__file__).parents[1]
PORT = 8443
DATABASE_PORT = 5432
IDLE, BODIES, LOG_INS, READS = 1050, 16, 40, 64
FLOODS = 16
DATABASE_IDLE, DATABASE_LOG_INS = 520, 195
STREET = "127.0.0.66"
"""The source of the attacks on the database."""
FLOODER, FLOODER_PASSWORD = "flooder@vsphere.local", "only-of-a-lab-7-Flooder"
"""A user without access, whom the caller has added."""
TLS_REQUEST = struct.pack("!ii", 8, 80877103)
START = struct.pack("!ii", 18, 0x30000) + b"user\0app\0\0"
BODY = b"[" + b",".join([b'{"a":1,"a":1}'] * ((1 << 20) // 14)) + b"]"
PACE_SECONDS = 0.05
ATTEMPT_SECONDS = 30.0
GRACE_SECONDS = 60
SESSION = "vmware-api-session-id"
JSON = {"content-type": "application/json"}


@functools.cache
def trusting() -> ssl.SSLContext:
    """Return a context that verifies no certificate; cached, as creating it is slower than TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client(
    host: str, source: str | None = None, seconds: float = ATTEMPT_SECONDS
) -> httpx2.AsyncClient:
    """Return a client with one connection, and with this timeout."""
    limits = httpx2.Limits(max_connections=1, keepalive_expiry=600)
    transport = httpx2.AsyncHTTPTransport(verify=trusting(), limits=limits, local_address=source)
    url = f"https://{host}:{PORT}"
    return httpx2.AsyncClient(transport=transport, base_url=url, timeout=seconds)


async def idle(host: str, _: str, seen: Counter[str]) -> None:
    """Hold a silent connection until the server closes it."""
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
            # Over JSON-RPC, an error comes with status 200.
            refused = "error" in reply.json()
            seen[f"{reply.status_code} {'refused' if refused else 'answered'}"] += 1


async def log_ins(host: str, _: str, seen: Counter[str]) -> None:
    """Log in with wrong passwords."""
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


async def joins(host: str, _: str, seen: Counter[str]) -> None:
    """Join with a token that is none, and a name that is long to quote."""
    async with client(host) as stranger:
        while True:
            body = {"token": uuid.uuid4().hex, "x" * 100_000: 1}
            reply = await stranger.post("/api/openvcha/joins", json=body)
            seen[f"{reply.status_code}"] += 1


async def refused(host: str, token: str, seen: Counter[str]) -> None:
    """Request what a reader may not do: each request is to be in the audit."""
    async with client(host) as reader:
        while True:
            path = "/api/vcenter/vcha/cluster?action=undeploy&vmw-task=true"
            reply = await reader.post(path, headers={SESSION: token}, json={})
            seen[f"{reply.status_code}"] += 1


async def sessions(host: str, _: str, seen: Counter[str]) -> None:
    """Begin session after session."""
    async with client(host) as user:
        while True:
            reply = await user.post("/api/session", auth=(FLOODER, FLOODER_PASSWORD))
            seen[f"{reply.status_code}"] += 1


async def database_idle(host: str, _: str, seen: Counter[str]) -> None:
    """Hold a silent connection to the database until it is closed."""
    reader, writer = await asyncio.open_connection(host, DATABASE_PORT, local_addr=(STREET, 0))
    seen["connected"] += 1
    try:
        await reader.read()
        seen["cut off"] += 1
    finally:
        writer.transport.abort()


async def database_log_ins(host: str, _: str, seen: Counter[str]) -> None:
    """Begin a login over TLS, and stop when a password is asked for."""
    reader, writer = await asyncio.open_connection(host, DATABASE_PORT, local_addr=(STREET, 0))
    seen["connected"] += 1
    try:
        writer.write(TLS_REQUEST)
        if await reader.read(1) == b"S":
            await writer.start_tls(trusting())
        writer.write(START)
        seen["asked" if await reader.read(1) == b"R" else "refused"] += 1
        await reader.read()
        seen["cut off"] += 1
    finally:
        writer.transport.abort()


Attack = Callable[[str, str, Counter[str]], Awaitable[None]]
ATTACKS: Mapping[str, tuple[Attack, int]] = MappingProxyType(
    {
        "idle": (idle, IDLE),
        "bodies": (bodies, BODIES),
        "log-ins": (log_ins, LOG_INS),
        "reads": (reads, READS),
        "joins": (joins, FLOODS),
        "refused": (refused, FLOODS),
        "sessions": (sessions, FLOODS),
        "database idle": (database_idle, DATABASE_IDLE),
        "database log-ins": (database_log_ins, DATABASE_LOG_INS),
    }
)


async def attack(name: str, host: str, token: str, seconds: float) -> Counter[str]:
    """Run one attack, reconnecting after failures; return the counts of its replies."""
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
    return seen


class Attacked:
    """The replies to the attackers, by attack, and the CPU seconds that they used."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = {}
        self.cpu = 0.0


@contextlib.contextmanager
def attacked(
    host: str, token: str, seconds: float, *, niceness: int = 0, names: Sequence[str] = ()
) -> Iterator[Attacked]:
    """Run these attacks (default: all) during a block; count their replies at its end."""
    command = [sys.executable, "-m", "bench.edge_attacks"]
    begun, found = _cpu_of_children(), Attacked()
    running = {
        name: subprocess.Popen(
            [*command, name, host, token, str(seconds), str(niceness)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for name in names or ATTACKS
    }
    try:
        yield found
        for name, each in running.items():
            written, _ = each.communicate(timeout=GRACE_SECONDS)
            found.answers[name] = Counter(json.loads(written))
        found.cpu = _cpu_of_children() - begun
    finally:
        for each in running.values():
            each.kill()
            each.wait()
            if each.stdout:
                each.stdout.close()


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(name: str, host: str, token: str, seconds: str, niceness: str) -> None:
    """Attack, and print the counts of the replies as one JSON object."""
    os.nice(int(niceness))
    print(json.dumps(asyncio.run(attack(name, host, token, float(seconds)))), flush=True)
    # Closing a thousand connections one by one serves no purpose.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
