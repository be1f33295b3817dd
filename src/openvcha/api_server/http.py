"""Shared by the HTTP protocols: reading bodies, writing JSON."""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import msgspec

from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.api_server.auth.credentials import SESSION_HEADER
from openvcha.api_server.auth.throttle import CHALLENGE
from openvcha.api_server.connection_limits import CLIENT, ClientConnection
from openvcha.api_server.request import ClientDisconnectedError, Request
from openvcha.api_server.response import JSON, Response

P = ParamSpec("P")
T = TypeVar("T")
CLOSE_CONNECTION = {"connection": "close"}
SECURITY_HEADERS: Final = (
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
)
"""Headers of every response, for browsers: never plain HTTP, and no MIME sniffing."""
RETRY_SECONDS: Final = 5
"""By then most outages are over: another node leads, or the store has quorum again."""
_GZIP = 16 + zlib.MAX_WBITS
_MAX_SHOWN = 100
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True)
class BodyLimit:
    """The most bytes of a body that are read, and the message for a longer one."""

    max_bytes: int
    message_id: str = "decode.too.large"


AUTHENTICATED_BODY: Final = BodyLimit(128 * 1024)
"""The longest useful list in a filter; parsing it takes 0.1 s at worst."""
ANONYMOUS_BODY: Final = BodyLimit(16 * 1024)
"""For reading before authentication: joining and logging in take far less."""
NO_SESSION_BODY: Final = BodyLimit(ANONYMOUS_BODY.max_bytes, "request.stranger")
"""The same, for requests where a session in the header would raise the limit."""


class BodyTooLargeError(ApiError):
    """A body exceeds its limit: the connection may still hold the rest of it."""


async def read_body(request: Request, limit: BodyLimit) -> bytes:
    """Return the body, decompressed.

    Raises ApiError: INVALID_REQUEST if it exceeds the limit, before or after decompression, if
    its type is not JSON, or if it cannot be decompressed; INVALID_ARGUMENT for an encoding other
    than gzip, and for a charset other than UTF-8; CANCELED if the client disconnects early.
    """
    packed = _is_packed(request.headers.get("content-encoding", ""))
    if not request.has_body:
        return b""
    if _announced(request) > limit.max_bytes:
        _too_large(limit)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit.max_bytes:
                _too_large(limit)
    except ClientDisconnectedError:
        raise ApiError(ErrorType.CANCELED, message("request.gone")) from None
    if not body:
        return b""
    if (kind := request.headers.get("content-type")) is not None:
        _require_json(kind)
        _require_utf_8(kind)
    return _unpacked(bytes(body), limit) if packed else bytes(body)


def is_small(request: Request) -> bool:
    """Return whether the head announces a body within the limit for anonymous clients."""
    unknown = request.headers.keys() & {"transfer-encoding", "content-encoding"}
    return not unknown and _announced(request) <= ANONYMOUS_BODY.max_bytes


async def off_loop_if_large(size: int, read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Call ``read`` on a body of this size: in a thread if it is large, to keep the loop free."""
    if size <= ANONYMOUS_BODY.max_bytes:
        return read(*args, **more)
    return await asyncio.to_thread(read, *args, **more)


def origin(request: Request) -> str:
    """Return the address that the request comes from."""
    client = request.scope.get("client")
    return str(client[0]) if client else "unknown"


def client_connection(request: Request) -> ClientConnection | None:
    """Return the connection of the request, if connections are counted."""
    found: ClientConnection | None = request.state.get(CLIENT)
    return found


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with encoded JSON, or with an empty body."""
    return Response(body, status, headers)


def error_response(body: Any, status: int, error: ApiError) -> Response:
    """Return the response for an error; with UNAUTHENTICATED it says how to authenticate."""
    response = json_response(msgspec.json.encode(body), status, retry_headers(error))
    if error.error_type is ErrorType.UNAUTHENTICATED:
        response.headers["www-authenticate"] = error.challenge or CHALLENGE
    if isinstance(error, BodyTooLargeError):
        response.headers.update(CLOSE_CONNECTION)  # the rest of the body would be read as a request
    return response


def retry_headers(error: ApiError) -> dict[str, str]:
    """Return the header with the seconds after which to retry.

    SERVICE_UNAVAILABLE always has it, else clients retry at once or never.
    """
    after = error.retry_after
    if after is None and error.error_type is ErrorType.SERVICE_UNAVAILABLE:
        after = RETRY_SECONDS
    return {} if after is None else {"retry-after": str(after)}


def session_headers(token: str | None, path: str | None = None) -> dict[str, str]:
    """Return headers with the token of a new session; with ``path``, also as a cookie."""
    if token is None:
        return {}
    headers = {SESSION_HEADER: token}
    return headers if path is None else headers | {"set-cookie": _cookie(token, path)}


def forgotten_cookie(path: str) -> dict[str, str]:
    """Return the header that deletes the session's cookie."""
    return {"set-cookie": f"{_cookie('', path)}; Max-Age=0"}


def _cookie(token: str, path: str) -> str:
    # Strict: browsers do not send it with requests from pages of other sites.
    return f"{SESSION_HEADER}={token}; Path={path}; Secure; HttpOnly; SameSite=Strict"


def server_stopping() -> ApiError:
    """Return the error for a request that is interrupted because the server stops."""
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, message("server.stopping"))


def _is_packed(encoding: str) -> bool:
    match encoding.strip().lower():
        case "identity" | "":
            return False
        case "gzip" | "x-gzip":
            return True
        case other:
            shown = other[:_MAX_SHOWN]
            raise ApiError(ErrorType.INVALID_ARGUMENT, message("content.encoding", shown))


def _unpacked(body: bytes, limit: BodyLimit) -> bytes:
    """Decompress a body, but not beyond the limit."""
    unpacking = zlib.decompressobj(_GZIP)
    try:
        plain = unpacking.decompress(body, limit.max_bytes + 1)
    except zlib.error:
        fail(ErrorType.INVALID_REQUEST, message("content.gzip"))
    if len(plain) > limit.max_bytes:
        _too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        fail(ErrorType.INVALID_REQUEST, message("content.gzip"))
    return plain


def _announced(request: Request) -> int:
    announced = request.headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else 0


def _too_large(limit: BodyLimit) -> NoReturn:
    raise BodyTooLargeError(ErrorType.INVALID_REQUEST, message(limit.message_id, limit.max_bytes))


def _require_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != JSON:
        fail(ErrorType.INVALID_REQUEST, message("content.type", content_type[:_MAX_SHOWN]))


def _require_utf_8(content_type: str) -> None:
    found = _CHARSET.search(content_type)
    if found and found[1].lower() not in _UTF_8:
        fail(ErrorType.INVALID_ARGUMENT, message("content.charset", found[1][:_MAX_SHOWN]))
