"""The outermost middleware: forms of the target, headers of every response, internal errors.

Every response has the headers that browsers need, none is text/plain, and none is lost because the
client is still sending when the connection is closed.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvcha.api.codec.encode import encode_error_rest
from openvcha.api.errors import STATUS, ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api_server.connection_limits import CLIENT, ClientConnection
from openvcha.api_server.http import (
    CLOSE_CONNECTION,
    SECURITY_HEADERS,
    error_response,
    json_response,
    server_stopping,
)
from openvcha.api_server.response import Response
from openvcha.api_server.token_bucket import TokenBucket

METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
DRAIN_BYTES: Final = 8 << 20
ANONYMOUS_DRAIN_BYTES: Final = 2 << 20
"""For clients without a session: decrypting the rest serves only to deliver the response."""
DRAIN_SECONDS: Final = 10.0
DRAIN_IDLE_SECONDS: Final = 1.0
MAX_DRAIN_BYTES_PER_SECOND: Final = 8 << 20
"""For all clients: each MiB takes six milliseconds of the loop."""
MAX_STRANGER_REQUESTS_PER_SECOND: Final = 100
"""Of one source, on connections without a session; each takes half a millisecond of the loop."""
STRANGER_REQUEST_BURST: Final = 400
MAX_SOURCES: Final = 1024
RETRY_SECONDS: Final = 1
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


class EdgeMiddleware:
    """An ASGI application around ``app``. ``internal`` logs a failure and returns its error."""

    def __init__(self, app: ASGIApp, internal: Callable[[BaseException], ApiError]) -> None:
        self._app = app
        self._internal = internal
        self._drains = TokenBucket(MAX_DRAIN_BYTES_PER_SECOND, MAX_DRAIN_BYTES_PER_SECOND)
        self._budgets: OrderedDict[str, TokenBucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope = in_origin_form(scope)
        exchange = _Exchange(scope, receive, send, self._drains)
        if scope["path"] == "*":
            await _everything(scope)(scope, exchange.receive, exchange.send)
            return
        if not self._admits(scope.get("state", {}).get(CLIENT)):
            await self._refuse(_over_budget(), exchange, CLOSE_CONNECTION)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # Only the server cancels, at the deadline of its stop: tell the client.
            if exchange.started:
                raise
            await self._refuse(server_stopping(), exchange)
        except Exception as failure:
            if exchange.started:
                raise
            await self._refuse(self._internal(failure), exchange)

    def _admits(self, client: ClientConnection | None) -> bool:
        """Count a request of a connection without a session; return whether it is within budget."""
        if client is None or client.known:
            return True
        budget = self._budgets.get(client.source)
        if budget is None:
            budget = self._budgets[client.source] = TokenBucket(
                MAX_STRANGER_REQUESTS_PER_SECOND, STRANGER_REQUEST_BURST
            )
            if len(self._budgets) > MAX_SOURCES:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(client.source)
        if budget.delay() > 0:
            return False
        budget.take(1)
        return True

    async def _refuse(
        self, error: ApiError, exchange: "_Exchange", headers: Mapping[str, str] | None = None
    ) -> None:
        response = error_response(encode_error_rest(error), STATUS[error.error_type], error)
        response.headers.update(headers or {})
        await response(exchange.scope, exchange.receive, exchange.send)


def _over_budget() -> ApiError:
    text = message("server.busy")
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=RETRY_SECONDS)


def in_origin_form(scope: Scope) -> Scope:
    """Return the scope with the target in origin form; the client may send a URL, as to proxies.

    Then the host in the URL counts, not that of the header (RFC 9112, 3.2.2).
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
    """Return the response to a request for the whole server (`*`): only OPTIONS is allowed."""
    known = scope["method"] == "OPTIONS"
    return json_response(b"", 204 if known else 405, {"allow": METHODS if known else "OPTIONS"})


class _Exchange:
    """A request with its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, drains: TokenBucket) -> None:
        self.scope = scope
        self._drains = drains
        self.started = False
        self._receive = receive
        self._send = send
        self._asked = False
        self._closes = closes_connection(scope)
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
            headers = [*message.get("headers", ()), *SECURITY_HEADERS]
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
        """Return whether closing now would reset the connection and lose the response."""
        waits = not self._asked and _header(self.scope, b"expect") is not None
        return self._closes and self._unread and not waits

    async def _drain(self) -> None:
        """Read the rest of the client's body, up to a limit, so that it reads the response."""
        client = self.scope.get("state", {}).get(CLIENT)
        left = DRAIN_BYTES if client is not None and client.known else ANONYMOUS_DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._unread and left > 0:
                    message = await asyncio.wait_for(self.receive(), DRAIN_IDLE_SECONDS)
                    size = len(message.get("body", b""))
                    left -= size
                    self._drains.take(size)
                    await asyncio.sleep(self._drains.delay())
        except (TimeoutError, asyncio.CancelledError):
            return  # the client has its response: that is enough


def closes_connection(scope: Scope) -> bool:
    """Return whether the client asks to close the connection after the response."""
    header = (_header(scope, b"connection") or b"").lower()
    return b"close" in header or scope.get("http_version") == "1.0"


def _has_body(scope: Scope) -> bool:
    length = _header(scope, b"content-length")
    return _header(scope, b"transfer-encoding") is not None or length not in (None, b"0")


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)
