"""How fast the API responds, compared with a bare "hello" of the same server in the same run.

A real lab, HEALTHY and otherwise idle; beside it a process that serves two bytes through the same
HTTPS server with the same certificate. One client queries both in turn: the same TLS, kept-alive
connections, with 1 connection and with 8. Each figure is taken once per round; the output has the
minimum, the median and the maximum over the rounds, and the median of the rate as a share of the
hello's rate in the same round.
Usage: ./dev bench api [ROUNDS]
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.failover import Bench
from bench.figures import machine
from bench.lab_up import vcha
from starlette.types import Receive, Scope, Send

from openvcha.api_server.server.https import HttpsServer
from openvcha.node.layout import API_CERTIFICATE, API_KEY

NAME = "bench"
CONNECTIONS = (1, 8)
SECONDS = 1.0
WARM_UP_SECONDS = 0.2
PAUSE_SECONDS = 0.05
FAIL_OVER = {"planned": True}
HELLO = "hello"


@dataclass(frozen=True)
class Figures:
    """One case in one round: median and 99th percentile in milliseconds, requests per second."""

    p50: float
    p99: float
    rate: float
    failed: int
    """Responses other than 200, and connections that the server closed."""


class Failed(Exception):  # noqa: N818 - named after the outcome
    """A response is not 200, or the server closed the connection."""


class Connection:
    """A kept-alive connection."""

    def __init__(self, address: tuple[str, int], name: str, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(address, timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=name)

    def ask(self, request: bytes) -> None:
        """Send a request and read the response, which must be a 200 of known length."""
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if b" 200 " not in lines[0]:
            raise Failed(data.decode(errors="replace"))
        length = next(line for line in lines if line.startswith(b"content-length:"))
        left = int(length.partition(b":")[2]) - len(body)
        while left > 0:
            left -= len(self._more())

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise Failed("the server closed a keep-alive connection")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@dataclass(frozen=True)
class Place:
    """A server and the request to send to it."""

    address: tuple[str, int]
    name: str
    context: ssl.SSLContext
    request: bytes

    def measure(self, connections: int) -> Figures:
        """Send requests without a pause over this many connections at once, for ``SECONDS``."""
        taken: list[list[float]] = [[] for _ in range(connections)]
        failures: list[str] = []
        self._work(time.perf_counter() + WARM_UP_SECONDS, [], failures)
        begun = time.perf_counter()
        threads = [
            threading.Thread(target=self._work, args=(begun + SECONDS, into, failures))
            for into in taken
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lasted = time.perf_counter() - begun
        every = sorted(1000 * seconds for each in taken for seconds in each)
        if not every:
            raise SystemExit(f"no answer within {SECONDS} s: {failures[:1]}")
        middle, slow = statistics.median(every), every[len(every) * 99 // 100]
        return Figures(middle, slow, len(every) / lasted, len(failures))

    def _work(self, end: float, into: list[float], failures: list[str]) -> None:
        connection = Connection(self.address, self.name, self.context)
        while (begun := time.perf_counter()) < end:
            try:
                connection.ask(self.request)
                into.append(time.perf_counter() - begun)
            except (Failed, OSError) as failure:
                failures.append(str(failure))
                connection.close()
                time.sleep(PAUSE_SECONDS)
                connection = Connection(self.address, self.name, self.context)
        connection.close()


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Return two letters for any request."""
    del scope, receive
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi"})


async def serve_hello(node: Path) -> None:
    """Serve the hello with a node's certificate, and print the port, until the input ends."""
    server = HttpsServer(hello, node / API_CERTIFICATE, node / API_KEY)
    print((await server.start("127.0.0.1", 0))[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


@contextlib.contextmanager
def hello_process(node: Path) -> Iterator[int]:
    """Run the hello in its own process, and yield its port."""
    command = [sys.executable, "-m", "bench.api", HELLO, str(node)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        if running.stdin is None or running.stdout is None:
            raise SystemExit("the hello has no pipes")
        yield int(running.stdout.readline())
        running.stdin.close()


def request(method: str, path: str, host: str, token: str, body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [
        f"{method} /api{path} HTTP/1.1",
        f"host: {host}",
        f"vmware-api-session-id: {token}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def places(bench: Bench, port: int, task: str) -> dict[str, Place]:
    """Return the cases to measure, the hello first."""
    host = bench.lab.state().public_address
    context = ssl.create_default_context(cafile=bench.lab.ca)
    token = bench.http.headers["vmware-api-session-id"]
    whole, partial = b'{"partial": false}', b'{"partial": true}'
    asked = {
        "cluster.mode.get": ("GET", "/vcenter/vcha/cluster/mode", b""),
        "tasks.get": ("GET", f"/cis/tasks/{task}", b""),
        "host.list": ("GET", "/vcenter/host", b""),
        "cluster.get, partial": ("POST", "/vcenter/vcha/cluster?action=get", partial),
        "cluster.get, with placements": ("POST", "/vcenter/vcha/cluster?action=get", whole),
    }
    own = {
        name: Place((host, 8443), host, context, request(method, path, host, token, body))
        for name, (method, path, body) in asked.items()
    }
    bare = Place(("127.0.0.1", port), host, context, request("GET", "/", host, token))
    return {HELLO: bare, **own}


def finished_task(bench: Bench) -> str:
    """Run a task to its end, and return it, so that there is one to query."""
    path = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
    reply = bench.http.post(path, json=FAIL_OVER)
    if reply.status_code != 202:
        raise SystemExit(reply.text)
    task = str(reply.json())
    bench.patiently("GET", f"/cis/tasks/{task}", "status", {"PENDING", "RUNNING"})
    bench.patiently(
        "POST", "/vcenter/vcha/cluster?action=get", "health_state", {"DEGRADED", "FAILED"}
    )
    return task


def show(connections: int, rounds: list[dict[str, Figures]]) -> None:
    """Print a table: a row for each case."""
    title = f"{connections} connection{'s' if connections > 1 else ''}"
    columns = ("p50 ms (min med max)", "p99 ms (min med max)", "per second (min med max)")
    print(f"\n{title:<30}" + "".join(f"{column:>27}" for column in columns) + "   of hello  failed")
    for name in rounds[0]:
        figures = [each[name] for each in rounds]
        share = statistics.median(each[name].rate / each[HELLO].rate for each in rounds)
        shown = (
            _spread(figures, lambda one: one.p50),
            _spread(figures, lambda one: one.p99),
            _spread(figures, lambda one: one.rate),
        )
        failed = sum(each.failed for each in figures)
        cells = "".join(f"{each:>27}" for each in shown)
        print(f"{name:<30}{cells}{share:>11.3f}{failed:>8}", flush=True)


def _spread(figures: list[Figures], which: Callable[[Figures], float]) -> str:
    values = [which(each) for each in figures]
    return " ".join(f"{v:8.2f}" for v in (min(values), statistics.median(values), max(values)))


def main(rounds: int) -> None:
    """Measure and print."""
    print(f"{machine()}; {rounds} rounds of {SECONDS:.0f} s a figure")
    signal.signal(signal.SIGTERM, _end)
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        bench = Bench(base)
        task = finished_task(bench)
        with hello_process(bench.data_nodes()[0].root) as port:
            measured = places(bench, port, task)
            for connections in CONNECTIONS:
                show(
                    connections,
                    [
                        {name: place.measure(connections) for name, place in measured.items()}
                        for _ in range(rounds)
                    ],
                )
    finally:
        vcha("lab", "reset", "--yes", "--name", NAME, "--dir", str(base))
        shutil.rmtree(base, ignore_errors=True)


def _end(*_: Any) -> None:
    raise SystemExit("ended by a signal")


if __name__ == "__main__":
    if sys.argv[1:2] == [HELLO]:
        asyncio.run(serve_hello(Path(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
