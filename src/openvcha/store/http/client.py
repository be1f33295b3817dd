"""An HTTP client for the other parts of the cluster: frequent small requests, few connections.

It keeps connections open, uses the current TLS context, and limits the size of each response.
An idle node spends its time on periodic requests: so this client uses h11 directly over asyncio's
streams, which takes a fifth of the time of a general-purpose client.
"""

import asyncio
import contextlib
import select
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import h11

from openvcha.store.http.tls_sessions import TlsSessions
from openvcha.system.network.keepalive import detect_lost_peer

TlsSource = Callable[[], ssl.SSLContext]
"""Returns the current context: the same object for as long as nothing has changed."""

IDLE_SECONDS: Final = 20.0
"""How long an idle connection is kept for the next request."""
CHUNK: Final = 64 << 10
ALWAYS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Without Accept, etcd treats the client as the owner of its own gateway's certificate."""

_BROKEN = (OSError, h11.RemoteProtocolError, asyncio.IncompleteReadError)
"""ssl.SSLError and TimeoutError are OSErrors."""


class HttpError(Exception):
    """The response is missing or incomplete; whether the request was processed is unknown."""


class NotSentError(HttpError):
    """The request was not sent: the connection failed, or the request is invalid."""


class TooLongError(HttpError):
    """The response is longer than allowed, or compressed, so that its length is unknown."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response, whatever its status."""

    status: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for connecting, and then for the complete response; None: unlimited."""

    connect: float
    response: float | None


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """The address of a server, with or without TLS; ``name`` is the value of the Host header."""

    secure: bool
    host: str
    port: int
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose head has arrived; ``pieces`` yields its body, and may raise HttpError."""

    status: int
    pieces: AsyncGenerator[bytes, None]


class _Connection:
    """A connection, for one request at a time. ``context`` is its TLS context."""

    def __init__(
        self,
        place: HttpEndpoint,
        context: ssl.SSLContext | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.place = place
        self._context = context
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(our_role=h11.CLIENT)
        self._clock = asyncio.get_running_loop().time
        self._since = self._clock()

    def note(self, sessions: TlsSessions) -> None:
        """Let the next connection to this server resume this TLS session."""
        if self._context is not None:
            spoken = self._writer.get_extra_info("ssl_object")
            sessions.note((self.place.host, self.place.port), self._context, spoken)

    def usable(self, context: ssl.SSLContext | None) -> bool:
        """Return whether the connection can carry another request, given the current context."""
        fresh = self._clock() - self._since < IDLE_SECONDS
        return fresh and context is self._context and not self._ended()

    def again(self) -> bool:
        """Prepare for the next request; return whether that is possible."""
        self._since = self._clock()
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:
            return False
        return True

    async def send(
        self, method: str, target: str, content: bytes, headers: Mapping[str, str]
    ) -> int:
        """Send a request, and return the status of the response. Raises HttpError."""
        data = self._written(method, target, content, headers)
        try:
            self._writer.write(data)
            await self._writer.drain()
            event = await self._event()
            while isinstance(event, h11.InformationalResponse):
                event = await self._event()
        except _BROKEN as error:
            raise HttpError(_why(error)) from error
        if not isinstance(event, h11.Response):
            raise HttpError("the connection closed before the response")
        _refuse_packed(event)
        return event.status_code

    def _written(
        self, method: str, target: str, content: bytes, headers: Mapping[str, str]
    ) -> bytes:
        fields = {"Host": self.place.name, **ALWAYS, **headers}
        if content:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        try:
            request = h11.Request(method=method, target=target, headers=list(fields.items()))
            body = [h11.Data(data=content)] if content else []
            parts = [self._http.send(event) for event in (request, *body, h11.EndOfMessage())]
        except (h11.LocalProtocolError, UnicodeError) as error:  # an invalid token
            raise NotSentError(_why(error)) from error
        return b"".join(part for part in parts if part)

    def _ended(self) -> bool:
        """Return whether the server has closed it, even if the loop has not noticed yet."""
        transport = self._writer.transport
        if transport.is_closing() or self._reader.at_eof():
            return True
        looking = select.poll()
        looking.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(looking.poll(0))

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body of the response. Raises HttpError."""
        try:
            while isinstance(event := await self._event(), h11.Data):
                yield bytes(event.data)
        except _BROKEN as error:
            raise HttpError(_why(error)) from error

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(CHUNK))
        return event

    def abort(self) -> None:
        """Close it immediately."""
        self._writer.transport.abort()


class TlsClient:
    """A client that keeps up to ``most_idle`` connections, all with the current TLS context."""

    def __init__(self, tls: TlsSource, most_idle: int = 16) -> None:
        self._tls = tls
        self._most_idle = most_idle
        self._sessions = TlsSessions()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def request(
        self,
        method: str,
        url: str,
        most: int,
        patience: Patience,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request; read a response of at most ``most`` bytes. Raises HttpError."""
        place, target = _reachable(url)
        async with self._lent(place, patience.connect) as connection, _in_time(patience.response):
            status = await connection.send(method, target, content, headers or {})
            return Reply(status, await read_whole(connection.pieces(), most))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        patience: Patience,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request; yield the response once its head has arrived within ``patience``.

        Raises HttpError.
        """
        place, target = _reachable(url)
        async with self._lent(place, patience.connect) as connection:
            async with _in_time(patience.response):
                status = await connection.send(method, target, content, headers or {})
            yield Answer(status, connection.pieces())

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            self._drop(connection)

    @asynccontextmanager
    async def _lent(self, place: HttpEndpoint, seconds: float) -> AsyncIterator[_Connection]:
        """Lend a connection; then keep it if it can be reused, else close it."""
        kept = self._kept(place)
        connection = kept or await self._connected(place, seconds)
        self._open.add(connection)
        again = False
        try:
            yield connection
            again = connection.again()
        finally:
            if kept is None:
                connection.note(self._sessions)
            if again:
                self._idle.append(connection)
            else:
                self._drop(connection)
            if len(self._idle) > self._most_idle:
                self._drop(self._idle[0])

    def _kept(self, place: HttpEndpoint) -> _Connection | None:
        context = self._context(place)
        for connection in [one for one in self._idle if one.place == place]:
            if connection.usable(context):
                self._idle.remove(connection)
                return connection
            self._drop(connection)
        return None

    async def _connected(self, place: HttpEndpoint, seconds: float) -> _Connection:
        context = self._context(place)
        resuming = context and self._sessions.resuming((place.host, place.port), context)
        try:
            async with asyncio.timeout(seconds):
                streams = await asyncio.open_connection(place.host, place.port, ssl=resuming)
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            raise NotSentError(_why(error)) from error
        with contextlib.suppress(OSError):  # it is closed already: the request will tell
            detect_lost_peer(streams[1].get_extra_info("socket"))
        return _Connection(place, context, *streams)

    def _context(self, place: HttpEndpoint) -> ssl.SSLContext | None:
        try:
            return self._tls() if place.secure else None
        except (OSError, ValueError) as error:  # the certificates are missing or incomplete
            raise NotSentError(_why(error)) from error

    def _drop(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._open.discard(connection)
        connection.abort()


async def read_whole(pieces: AsyncGenerator[bytes, None], most: int) -> bytes:
    """Read a complete body. Raises HttpError (TooLongError is a subclass)."""
    data = bytearray()
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            data += piece
            if len(data) > most:
                raise TooLongError(f"the response is longer than {most} bytes")
    return bytes(data)


async def read_lines(pieces: AsyncGenerator[bytes, None], most: int) -> AsyncGenerator[bytes, None]:
    """Yield lines without their ends. Raises TooLongError for one longer than ``most``."""
    begun = bytearray()
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            first, *others = piece.split(b"\n")
            begun += first
            for line in others:
                yield bytes(begun)
                begun = bytearray(line)
            if len(begun) > most:
                raise TooLongError(f"a line of the response is longer than {most} bytes")
    if begun:
        yield bytes(begun)


@lru_cache(maxsize=256)
def split(url: str) -> tuple[HttpEndpoint, str]:
    """Return the server of a URL, and the request target there. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise ValueError(f"not an HTTP URL: {url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpEndpoint(parts.scheme == "https", parts.hostname, port, parts.netloc), target


def _reachable(url: str) -> tuple[HttpEndpoint, str]:
    try:
        return split(url)
    except ValueError as error:  # other nodes announce their URLs
        raise NotSentError(_why(error)) from error


@asynccontextmanager
async def _in_time(seconds: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise HttpError(f"no response within {seconds:g} seconds") from error


def _refuse_packed(response: h11.Response) -> None:
    """Raise TooLongError for a compressed response: its unpacked size is unbounded."""
    packed = [value for name, value in response.headers if name == b"content-encoding"]
    if any(value.lower() != b"identity" for value in packed):
        raise TooLongError("the response is compressed")


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
