"""What stands before all protocols: forms of the target, headers of every answer, the last line.

Nothing leaves without the headers that browsers need, nothing ends as text/plain, and no answer
is lost because the client was still sending when the connection was closed.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvcha.api.codec.encode import encode_error_rest
from openvcha.api.errors import STATUS, ApiError
from openvcha.api_server.connection_limits import GUEST
from openvcha.api_server.http import SECURITY, refuse, reply, stopping
from openvcha.api_server.pace import Pace
from openvcha.api_server.response import Response

METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
DRAIN_BYTES: Final = 8 << 20
STRANGERS_BYTES: Final = 2 << 20
"""Of who has shown no session: all of it is deciphered, for nothing but that the answer arrives."""
DRAIN_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 1.0
DRAIN_BYTES_A_SECOND: Final = 8 << 20
"""Of all clients: each MiB takes six milliseconds of the loop."""
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


class Front:
    """An ASGI application around the others. ``internal`` logs and names a failure of our own."""

    def __init__(self, app: ASGIApp, internal: Callable[[BaseException], ApiError]) -> None:
        self._app = app
        self._internal = internal
        self._drains = Pace(DRAIN_BYTES_A_SECOND, DRAIN_BYTES_A_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope = in_origin_form(scope)
        exchange = _Exchange(scope, receive, send, self._drains)
        if scope["path"] == "*":
            await _everything(scope)(scope, exchange.receive, exchange.send)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # Only the server cancels, at the deadline of its stop: the client is to know.
            if exchange.started:
                raise
            await self._refuse(stopping(), exchange)
        except Exception as failure:
            if exchange.started:
                raise
            await self._refuse(self._internal(failure), exchange)

    async def _refuse(self, error: ApiError, exchange: "_Exchange") -> None:
        response = refuse(encode_error_rest(error), STATUS[error.error_type], error)
        await response(exchange.scope, exchange.receive, exchange.send)


def in_origin_form(scope: Scope) -> Scope:
    """Return the scope of a request whose target may be a whole URL, as proxies are sent it.

    Its host then counts, and not that of the header (RFC 9112, 3.2.2).
    """
    target = scope.get("raw_path") or b""
    found = None if target.startswith(b"/") else _ABSOLUTE.fullmatch(target)
    if found is None:
        return scope
    host, raw_path = found[1], found[2]
    if not raw_path:
        raw_path = b"*" if scope["method"] == "OPTIONS" else b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "raw_path": raw_path,
        "path": unquote(raw_path.decode("ascii")),
        "headers": [(b"host", host), *headers],
    }


def _everything(scope: Scope) -> Response:
    """Return what is asked of the server as a whole: only OPTIONS is."""
    known = scope["method"] == "OPTIONS"
    return reply(b"", 204 if known else 405, {"allow": METHODS if known else "OPTIONS"})


class _Exchange:
    """One request with its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drains: Pace) -> None:
        self.scope = scope
        self._drains = drains
        self.started = False
        self._receive = receive
        self._send = send
        self._asked = False
        self._closes = closes(scope)
        self._unread = _has_body(scope)

    async def receive(self) -> Message:
        self._asked = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = [*message.get("headers", ()), *SECURITY]
            self._closes |= (b"connection", b"close") in headers
            message = {**message, "headers": headers}
        elif self._is_last(message) and self._would_reset():
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": message["type"], "body": b""}
        await self._send(message)

    def _is_last(self, message: Message) -> bool:
        return message["type"] == "http.response.body" and not message.get("more_body", False)

    def _would_reset(self) -> bool:
        """Return whether closing now would reset the connection, and the answer be lost with it."""
        waits = not self._asked and _header(self.scope, b"expect") is not None
        return self._closes and self._unread and not waits

    async def _drain(self) -> None:
        """Let the client send what it was sending, up to a bound: then it reads the answer."""
        guest = self.scope.get("state", {}).get(GUEST)
        left = DRAIN_BYTES if guest is not None and guest.known else STRANGERS_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._unread and left > 0:
                    message = await asyncio.wait_for(self.receive(), SILENT_SECONDS)
                    size = len(message.get("body", b""))
                    left -= size
                    self._drains.take(size)
                    await asyncio.sleep(self._drains.delay())
        except (TimeoutError, asyncio.CancelledError):
            return  # it is told; more is not owed to it


def closes(scope: Scope) -> bool:
    """Return whether the client's request ends the connection."""
    said = (_header(scope, b"connection") or b"").lower()
    return b"close" in said or scope.get("http_version") == "1.0"


def _has_body(scope: Scope) -> bool:
    length = _header(scope, b"content-length")
    return _header(scope, b"transfer-encoding") is not None or length not in (None, b"0")


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)
