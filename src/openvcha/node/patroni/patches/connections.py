"""Connections without a certificate do not occupy threads of Patroni's API.

Patroni 4.1 assigns a connection one of its few threads before the TLS handshake, and waits there
without a timeout, even when it shuts down. So a handful of silent connections, from any host that
reaches the port, would block the API. Here one thread does all handshakes, and closes the oldest
unfinished one when there are too many. A connection with a certificate of the cluster gets a
thread, within a share for each certificate: an attacker who has stolen a witness gets one share.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any

HANDSHAKE_SECONDS = 10.0
REQUEST_SECONDS = 10.0
"""The timeout of a silent connection after its handshake."""
MAX_WAITING = 512
THREADS = 16
MAX_THREADS_PER_CERTIFICATE = 4
"""The share of one certificate. A node sends one or two requests at a time."""
MAX_QUEUED = 64
BACKLOG = 128

Process = Callable[[Any, Any, Any], None]

REPLACES = {
    "patroni.api:RestApiServer.process_request": "58188ffc78907d0a",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    guard(import_module("patroni.api").RestApiServer)


def guard(server: Any, entrance: "HandshakeThread | None" = None) -> None:
    """Route new connections of Patroni's server through the handshake thread."""
    for needed in ("process_request", "process_request_thread", "shutdown_request"):
        getattr(server, needed)
    entrance = entrance or HandshakeThread()
    server.process_request = entrance.admitting(server.process_request)


@dataclass(frozen=True, eq=False)
class PendingConnection:
    """A connection, with the deadline of its handshake (on the clock)."""

    server: Any
    request: ssl.SSLSocket
    address: Any
    until: float

    def close(self) -> None:
        """Close the socket; ignore its errors."""
        with contextlib.suppress(OSError):
            self.request.close()


class HandshakeThread:
    """A daemon thread that does the handshakes of all connections."""

    def __init__(
        self,
        seconds: float = HANDSHAKE_SECONDS,
        most: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._new: SimpleQueue[PendingConnection] = SimpleQueue()
        self._waiting: OrderedDict[PendingConnection, None] = OrderedDict()
        self._shares = ThreadShares()
        self._selector = selectors.DefaultSelector()
        self._wake, woken = socket.socketpair()
        self._selector.register(woken, selectors.EVENT_READ)
        for end in (self._wake, woken):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="handshakes", daemon=True)

    def admitting(self, original: Process) -> Process:
        """Return a replacement of ``original`` that accepts new connections."""

        def process_request(server: Any, request: Any, address: Any) -> None:
            if not isinstance(request, ssl.SSLSocket):
                return original(server, request, address)
            request.setblocking(False)
            self._new.put(
                PendingConnection(server, request, address, self._clock() + self._seconds)
            )
            if not self._thread.is_alive():
                self._thread.start()
            with contextlib.suppress(BlockingIOError):  # the thread is already awake
                self._wake.send(b"!")
            return None

        return process_request

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._pause()):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        key.fileobj.recv(1 << 12)  # type: ignore[union-attr]  # it is a socket
                else:
                    self._go_on(key.data)
            self._take()
            self._end_late()

    def _pause(self) -> float | None:
        oldest = next(iter(self._waiting), None)
        return None if oldest is None else max(0.0, oldest.until - self._clock())

    def _take(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                visit = self._new.get_nowait()
                if len(self._waiting) >= self._most:
                    self._end(next(iter(self._waiting)))
                self._selector.register(visit.request, selectors.EVENT_READ, visit)
                self._waiting[visit] = None
                self._go_on(visit)

    def _end_late(self) -> None:
        now = self._clock()
        for visit in [visit for visit in self._waiting if visit.until <= now]:
            self._end(visit)

    def _end(self, visit: PendingConnection) -> None:
        self._forget(visit)
        visit.close()

    def _forget(self, visit: PendingConnection) -> None:
        self._selector.unregister(visit.request)
        del self._waiting[visit]

    def _go_on(self, visit: PendingConnection) -> None:
        try:
            visit.request.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(visit.request, selectors.EVENT_READ, visit)
        except ssl.SSLWantWriteError:
            self._selector.modify(visit.request, selectors.EVENT_WRITE, visit)
        except OSError:
            self._end(visit)
        else:
            self._forget(visit)
            visit.request.settimeout(REQUEST_SECONDS)
            self._shares.enter(visit)


class ThreadShares:
    """Threads that serve connections: a limited number per certificate; the rest are queued."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[bytes] = Counter()
        self._queued: dict[bytes, deque[PendingConnection]] = {}

    def enter(self, visit: PendingConnection) -> None:
        """Serve a connection now or later; close it if too many are queued."""
        who = visit.request.getpeercert(binary_form=True) or b""
        with self._lock:
            now = self._running[who] < MAX_THREADS_PER_CERTIFICATE
            queued = self._queued.setdefault(who, deque()) if not now else None
            if now:
                self._running[who] += 1
            elif queued is not None and len(queued) < MAX_QUEUED:
                queued.append(visit)
                return
        if now:
            self._begin(who, visit)
        else:
            visit.close()

    def _begin(self, who: bytes, visit: PendingConnection) -> None:
        try:
            visit.server._executor.submit(self._serve, who, visit)  # noqa: SLF001 - there is no other handle
        except RuntimeError:  # Patroni is shutting down
            visit.close()
            self._leave(who)

    def _serve(self, who: bytes, visit: PendingConnection) -> None:
        try:
            visit.server.process_request_thread(visit.request, visit.address)
        finally:
            self._leave(who)

    def _leave(self, who: bytes) -> None:
        with self._lock:
            queued = self._queued.get(who)
            following = queued.popleft() if queued else None
            if not queued:
                self._queued.pop(who, None)
            if following is None:
                self._running[who] -= 1
                self._running += Counter()  # drop counts of 0
        if following is not None:
            self._begin(who, following)
