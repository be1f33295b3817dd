"""The process that accepts the API's connections and distributes them among its workers.

All connections of one source go to one worker. So each limit per source holds in that worker's
memory alone, and a greedy source slows down only the worker that it meets. If that worker is gone,
the source goes to another one until it is back.

Only this process listens. Sockets of several processes at one port (SO_REUSEPORT) would let a
former active of the same machine, which has not stopped yet, receive connections too.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from openvcha.api_server.server.listening import Listener, listen_directly
from openvcha.api_server.server.passed_connections import pass_connection
from openvcha.daemon.api_processes.ordered_api import ApiService, Sight, follow_service
from openvcha.daemon.api_processes.orders import Orders
from openvcha.daemon.api_processes.worker_socket import accept_workers, read_number
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.public_address.listening import API_DRAIN_SECONDS, listens
from openvcha.infrastructure.local.switch_client import SwitchedListener
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.process.supervised_loop import BackgroundFailures, run_forever
from openvcha.system.network.passed_sockets import close_copy
from openvcha.system.network.private_sockets import require_own_user
from openvcha.system.network.sources import source_of
from openvcha.system.structlog_light import structlog

ACCEPTS_PER_TURN: Final = 64
PAUSE_SECONDS: Final = 0.1
"""Before the next attempt when the process has no descriptors left."""
KEY_BYTES: Final = 16
QUEUE_BYTES: Final = 1 << 19
"""For the connections on the way to one worker: 550 with Linux's default `net.core.wmem_max`, 1300
at most. One more is closed, whoever's it is."""
REFUSED_LOG_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


async def distribute(directory: Path, workers: int) -> None:
    """Distribute the connections to the API of a data node until canceled."""
    identity, layout, failing = load_identity(directory), Layout(directory), BackgroundFailures()
    term = LeaderTerm()
    distributor = Distributor(workers, listens(identity, term, drain=API_DRAIN_SECONDS))

    def apply(order: Orders) -> None:
        term.revision = order.term

    name, work = "API: workers", partial(distributor.run, layout.api_connections)
    running = asyncio.create_task(run_forever(name, work, _log, report_health=failing), name=name)
    address = identity.public_address, identity.ports.api
    api = ApiService(distributor, address, _nothing_to_know, report_health=failing)
    try:
        await follow_service(api, layout.api_socket, failing, apply)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _nothing_to_know() -> Sight:
    return Sight(complete=True, certain=True)


def worker_of(source: str, workers: Iterable[int], key: bytes) -> int:
    """Return the worker for a source; one that comes or goes moves only its own sources.

    With a secret ``key``, no client can choose a source that shares a worker with another one.
    """

    def weight(worker: int) -> bytes:
        return hashlib.blake2b(f"{worker} {source}".encode(), key=key, digest_size=8).digest()

    return max(workers, key=weight)


class Distributor:
    """A server that passes each connection on to one of ``workers`` processes (from 1).

    It listens from the first worker on, and lets connections wait while there is none.
    """

    def __init__(
        self,
        workers: int,
        listen: Callable[[str, int], Awaitable[Listener]] = listen_directly,
    ) -> None:
        self._workers = range(1, workers + 1)
        self._listen = listen
        self._key = secrets.token_bytes(KEY_BYTES)
        self._watched: set[socket.socket] = set()
        self._channels: dict[int, socket.socket] = {}
        self._connected = asyncio.Event()
        self._processes: dict[int, int] = {}
        """The descriptors of the workers' processes, by process id."""
        self._listener: Listener | None = None
        self._taken = False
        self._closed = asyncio.Event()
        self._silent_until = 0.0

    async def run(self, path: Path) -> None:
        """Accept workers at a path until canceled. Raises OSError."""
        try:
            await accept_workers(path, self._watch_worker)
        finally:
            for channel in tuple(self._watched):
                self._drop(channel)
            for process in tuple(self._processes):
                self._forget(process)

    @property
    def running(self) -> bool:
        """Return whether it listens."""
        return self._listener is not None

    @property
    def connected(self) -> list[int]:
        """Return the workers that get connections."""
        return sorted(self._channels)

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen once there is a worker; return the address and the port. Raises OSError."""
        await self._connected.wait()
        listener = self._listener = await self._listen(address, port)
        self._taken = False
        self._closed.clear()
        self._watch_listener()
        host, bound = listener.getsockname()[:2]
        return host, bound

    def close(self) -> None:
        """Stop listening at once."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._closed.set()

    async def stop(self) -> None:
        """Stop listening; the workers end the requests."""
        self.close()

    async def wait(self) -> bool:
        """Wait until it does not listen any more; return whether another process has ended that."""
        await self._closed.wait()
        return self._taken

    def _watch_worker(self, channel: socket.socket) -> None:
        self._watched.add(channel)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        self._watch_process(require_own_user(channel))
        asyncio.get_running_loop().add_reader(channel, self._hear, channel)

    def _watch_process(self, process: int) -> None:
        """Have the switch end the connections of a worker's process as soon as that has ended.

        The switch has descriptors of them too, so the kernel does not end them.
        """
        if process in self._processes:
            return
        with contextlib.suppress(ProcessLookupError):
            self._processes[process] = os.pidfd_open(process)
            loop = asyncio.get_running_loop()
            loop.add_reader(self._processes[process], self._end_connections, process)

    def _end_connections(self, process: int) -> None:
        self._forget(process)
        if isinstance(self._listener, SwitchedListener):
            self._listener.cut(process)

    def _forget(self, process: int) -> None:
        descriptor = self._processes.pop(process)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _hear(self, channel: socket.socket) -> None:
        """Read a worker's number; its end of file is the worker's end."""
        number = read_number(channel)
        if number not in self._workers:
            self._drop(channel)
            return
        older = self._channels.get(number)
        self._channels[number] = channel
        if older is not None and older is not channel:
            self._drop(older)
        self._connected.set()
        self._watch_listener()

    def _drop(self, channel: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        self._watched.discard(channel)
        self._channels = {number: one for number, one in self._channels.items() if one != channel}
        if not self._channels:
            self._connected.clear()
        self._watch_listener()

    def _watch_listener(self) -> None:
        """Accept clients only while there are workers: until then they wait in the backlog."""
        if self._listener is None:
            return
        loop = asyncio.get_running_loop()
        if self._channels:
            loop.add_reader(self._listener, self._accept)
        else:
            loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            listener = self._listener
            if listener is None or not self._channels:
                return
            try:
                accepted, origin = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except EOFError:
                self.close()
                self._taken = True
                return
            except OSError:  # no descriptors are left
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(PAUSE_SECONDS, self._watch_listener)
                return
            if self._pass_on(accepted, source_of(origin[0])):
                close_copy(accepted)
            else:
                accepted.close()

    def _pass_on(self, accepted: socket.socket, source: str) -> bool:
        """Pass a connection on to the worker of its source; return whether it was accepted."""
        while self._channels:
            number = worker_of(source, self._channels, self._key)
            channel = self._channels[number]
            try:
                pass_connection(channel, accepted)
            except (BrokenPipeError, ConnectionResetError):
                self._drop(channel)
                continue
            except OSError as error:
                self._note_refused(number, error)
                return False
            if isinstance(self._listener, SwitchedListener):
                self._listener.assign(require_own_user(channel))
            return True
        return False

    def _note_refused(self, number: int, error: OSError) -> None:
        """Log that a worker gets too many connections; strangers may cause that at any rate."""
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + REFUSED_LOG_SECONDS
            _log.warning(
                "a worker does not accept its connections", worker=number, reason=str(error)
            )
