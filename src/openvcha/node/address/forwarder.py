"""The public address of the loopback lab, at which clients reach PostgreSQL of the active."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from openvcha.node.address.client_limit import (
    DEFAULT_MAX_CONNECTIONS,
    HEAD_BYTES,
    LOGIN_LIMIT_SECONDS,
    RESERVED_CONNECTIONS,
    Login,
    too_many_clients_error,
)
from openvcha.node.address.listening import Listen, Listener, listen
from openvcha.node.address.sessions import logged_in_ports
from openvcha.node.address.state import HELD, NOBODY, cannot
from openvcha.store.address_reports import AddressState
from openvcha.system.network.keepalive import detect_lost_peer
from openvcha.system.network.sources import source_of
from openvcha.system.structlog_light import structlog

CHUNK = 256 << 10
CONNECT_SECONDS = 5.0
ACCEPT_RETRY_SECONDS = 1.0
START_SECONDS = 10.0
"""For the first bytes of a client, which counts towards the limit only after them."""
MAX_SILENT_CLIENTS = 200
"""Clients that have not sent anything yet, each of which takes a descriptor."""
REFUSE_SECONDS = 1.0
LOGIN_SECONDS = 1.0
"""Logins younger than this are ended only for a client whose source has fewer logins."""
MAX_CANCEL_REQUESTS = 10
"""Requests to cancel a statement that pass even at the limit."""
SESSIONS_SECONDS = 0.5
"""How often at most the processes of all sessions are read, at the limit."""
COUNT_SECONDS = 10.0
WARN_SECONDS = 60.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Client:
    """One connection. ``login`` is None before its first bytes; until then it does not count.

    ``since`` is when it was accepted, or else when its login began. ``port`` is from where it is
    forwarded to PostgreSQL, 0 before that.
    """

    since: float
    source: str
    port: int = 0
    task: asyncio.Task[None] | None = None
    login: Login | None = field(default=None)

    @property
    def is_logging_in(self) -> bool:
        """Return whether it counts towards the limit and is not known to have logged in."""
        if self.login is None or self.login.is_confirmed:
            return False
        return _now() - self.since < LOGIN_LIMIT_SECONDS


class Forwarder:
    """A forwarder of TCP connections from the public address to PostgreSQL on the HA address.

    ``open_listener`` excludes other holders: it binds the address, or asks the process that does.
    It is not one of asyncio's servers: when closed, those lose a connection that is accepted but
    not yet handed over, and its client would wait forever.

    ``max_clients`` returns how many clients the database accepts. Silent clients do not count. At
    the limit, the longest login of the source with the most logins is disconnected; without one,
    the new client is refused as PostgreSQL would: so superusers and replication can always connect.
    ``logged_in`` returns from which ports sessions have logged in, where TLS hides it.
    """

    def __init__(
        self,
        place: tuple[str, int],
        target: tuple[str, int],
        max_clients: Callable[[], int] = lambda: DEFAULT_MAX_CONNECTIONS - RESERVED_CONNECTIONS,
        logged_in: Callable[[], Collection[int]] = logged_in_ports,
        open_listener: Listen = listen,
    ) -> None:
        self._place = place
        self._open_listener = open_listener
        self._target = target
        self._max_clients = max_clients
        self._logged_in = logged_in
        self._confirmed = float("-inf")
        self._counted = (float("-inf"), 0)
        self._listener: Listener | None = None
        self._state = NOBODY
        self._lost = asyncio.Event()
        self._clients: set[_Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned = float("-inf")
        self._unwelcome = 0

    @property
    def held(self) -> bool:
        """Return whether the address is held."""
        return self._listener is not None

    @property
    def state(self) -> AddressState:
        """Return whether the address is held, or why it could not be taken last."""
        return self._state

    @property
    def port(self) -> int:
        """Return the port that it listens on. Raises ValueError if the address is not held."""
        if self._listener is None:
            raise ValueError("the address is not held")
        return int(self._listener.getsockname()[1])

    async def acquire(self) -> None:
        """Acquire the address. Raises OSError while another process holds it: retry then."""
        if self._listener is not None:
            return
        try:
            self._listener = await self._open_listener(self._place)
        except OSError as error:
            self._state = cannot(str(error))
            raise
        self._state = HELD
        self._lost.clear()
        self._watch(self._listener)

    async def wait_until_lost(self) -> None:
        """Wait until the address is no longer held, although nobody has released it."""
        await self._lost.wait()

    async def release(self) -> None:
        """Release the address: stop accepting, and end all connections at once."""
        await asyncio.gather(*self._stop(), return_exceptions=True)

    def _stop(self) -> Sequence[asyncio.Task[None]]:
        """Stop accepting, and end all connections; return the tasks that do so."""
        listener, self._listener = self._listener, None
        self._state = NOBODY
        if listener is None:
            return ()
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    def _watch(self, listener: Listener) -> None:
        if listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: Listener) -> None:
        try:
            connection, origin = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except EOFError:
            self._stop()
            self._lost.set()
            return
        except OSError:
            # No descriptors are left: the connection stays in the backlog until some are free.
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_RETRY_SECONDS, self._watch, listener)
            return
        client = _Client(_now(), source_of(str(origin[0])))
        silent = [each for each in self._clients if each.login is None]
        if len(silent) >= MAX_SILENT_CLIENTS:
            self._end(_oldest_of_busiest(silent, Counter(each.source for each in silent)))
        client.task = task = asyncio.create_task(self._forward(connection, client))
        self._clients.add(client)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._clients.discard(client))
        # A task that is canceled before it starts closes nothing itself.
        task.add_done_callback(lambda _: connection.close())

    async def _forward(self, connection: socket.socket, client: _Client) -> None:
        connection.setblocking(False)
        detect_lost_peer(connection)
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            async with asyncio.timeout(START_SECONDS):
                head = await reader.readexactly(HEAD_BYTES)
            login = Login(head)
            if not self._may_continue(login, client.source):
                await _refuse(reader, writer)
                return
            client.login, client.since = login, _now()
            async with asyncio.timeout(CONNECT_SECONDS):
                back = await asyncio.open_connection(*self._target)
            client.port = back[1].get_extra_info("sockname")[1]
            back[1].write(head)
            await _exchange((reader, writer), back, login)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def _may_continue(self, login: Login, source: str) -> bool:
        """Return whether a client may connect, after ending another's login if necessary."""
        placed = [each for each in self._clients if each.login]
        max_clients = self._client_limit() + (MAX_CANCEL_REQUESTS if login.cancels else 0)
        if len(placed) < max_clients:
            return True
        self._warn(max_clients)
        self._confirm(placed)
        return self._end(_to_evict([each for each in placed if each.is_logging_in], source))

    def _confirm(self, clients: Iterable[_Client]) -> None:
        """Find out which of the clients have logged in."""
        if _now() - self._confirmed < SESSIONS_SECONDS:
            return
        self._confirmed = _now()
        ports = self._logged_in()
        for client in clients:
            if client.login and client.port in ports:
                client.login.is_confirmed = True

    def _end(self, client: _Client | None) -> bool:
        """Disconnect a client, if there is one to disconnect; return whether there was."""
        if client is None:
            return False
        # It stops counting at once, before its task has ended.
        self._clients.discard(client)
        if client.task:
            client.task.cancel()
        return True

    def _client_limit(self) -> int:
        counted, max_clients = self._counted
        if _now() - counted >= COUNT_SECONDS:
            max_clients = self._max_clients()
            self._counted = _now(), max_clients
        return max_clients

    def _warn(self, max_clients: int) -> None:
        """Log that the limit is reached: at once, and then at most once a minute."""
        self._unwelcome += 1
        if _now() - self._warned >= WARN_SECONDS:
            _log.warning(
                "all connections to the database are in use",
                places=max_clients,
                more=self._unwelcome,
            )
            self._warned, self._unwelcome = _now(), 0


def _to_evict(logging_in: Sequence[_Client], source: str) -> _Client | None:
    """Return the client whose login ends for a new client from ``source``; None: it is refused.

    Logins that have just begun end only for a source with fewer of them: many clients of one
    application, as after a failover, would only evict each other.
    """
    counts = Counter([*(each.source for each in logging_in), source])
    oldest = _oldest_of_busiest(logging_in, counts)
    if oldest is None:
        return None
    is_old = oldest.since <= _now() - LOGIN_SECONDS
    return oldest if is_old or counts[oldest.source] > counts[source] else None


def _oldest_of_busiest(clients: Iterable[_Client], counts: Mapping[str, int]) -> _Client | None:
    """Return the oldest client of the source that counts most; None if there are none."""
    return min(clients, key=lambda each: (-counts[each.source], each.since), default=None)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse a client; closing with bytes unread would reset the connection and lose the error."""
    writer.write(too_many_clients_error())
    writer.write_eof()
    async with asyncio.timeout(REFUSE_SECONDS):
        while await reader.read(CHUNK):
            pass


async def _exchange(client: Streams, server: Streams, login: Login) -> None:
    """Forward data in both directions until both sides have ended."""
    both = (
        _pipe(client[0], server[1], lambda _: None),
        _pipe(server[0], client[1], login.server_sent),
    )
    pipes = [asyncio.create_task(pipe) for pipe in both]
    try:
        await asyncio.wait(pipes)
    finally:
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        server[1].transport.abort()


async def _pipe(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Callable[[bytes], None]
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            passed(data)
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
