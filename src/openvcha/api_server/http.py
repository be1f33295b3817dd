"""What the protocols over HTTP have in common: bodies in, JSON out."""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.api_server.auth.credentials import SESSION_HEADER
from openvcha.api_server.auth.throttle import CHALLENGE
from openvcha.api_server.connection_limits import GUEST, Guest
from openvcha.api_server.request import GoneError, Request
from openvcha.api_server.response import JSON, Response

P = ParamSpec("P")
T = TypeVar("T")
UNREAD = {"connection": "close"}
SECURITY: Final = (
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
)
"""Headers of every answer, for browsers: never plain HTTP, and no guessing of types."""
RETRY_SECONDS: Final = 5
"""After so long what is away now is mostly back: another node leads, the store has a majority."""
_GZIP = 16 + zlib.MAX_WBITS
_LONGEST_SHOWN = 100
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True)
class Bound:
    """How many bytes of a body are read, and how more is refused."""

    most: int
    told: str = "decode.too.large"


KNOWN: Final = Bound(128 * 1024)
"""The longest list that a filter is good for; at worst it takes 0.1 s to parse."""
ANYBODY: Final = Bound(16 * 1024)
"""Read before anybody is known: joining and logging in take far less."""
WITHOUT_SESSION: Final = Bound(ANYBODY.most, "request.stranger")
"""The same where a session in the header would let more be read."""
_TOO_LARGE: Final = frozenset(message(each.told, 0).id for each in (KNOWN, WITHOUT_SESSION))


async def read_body(request: Request, bound: Bound) -> bytes:
    """Return the body, unpacked.

    Raises ApiError: INVALID_REQUEST for more than the bound, also when unpacked, for a type other
    than JSON, and for what cannot be unpacked; INVALID_ARGUMENT for an encoding other than gzip,
    and for a charset other than UTF-8; CANCELED when the client goes before all of it is there.
    """
    packed = _is_packed(request.headers.get("content-encoding", ""))
    if not request.has_body:
        return b""
    if _announced(request) > bound.most:
        _too_large(bound)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > bound.most:
                _too_large(bound)
    except GoneError:
        raise ApiError(ErrorType.CANCELED, message("request.gone")) from None
    if not body:
        return b""
    if (kind := request.headers.get("content-type")) is not None:
        _require_json(kind)
        _require_utf_8(kind)
    return _unpacked(bytes(body), bound) if packed else bytes(body)


def is_small(request: Request) -> bool:
    """Return whether the head says that the body is not more than is read of anybody."""
    unknown = request.headers.keys() & {"transfer-encoding", "content-encoding"}
    return not unknown and _announced(request) <= ANYBODY.most


async def apart(size: int, read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Read a body of this size: a large one in a thread, so that all others go on meanwhile."""
    if size <= ANYBODY.most:
        return read(*args, **more)
    return await asyncio.to_thread(read, *args, **more)


def origin(request: Request) -> str:
    """Return the address that the request came from."""
    client = request.scope.get("client")
    return str(client[0]) if client else "unknown"


def guest(request: Request) -> Guest | None:
    """Return the connection that the request came by, where connections are counted."""
    found: Guest | None = request.state.get(GUEST)
    return found


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Send JSON that is written already, or with nothing."""
    return Response(body, status, headers)


def refuse(body: Any, status: int, error: ApiError) -> Response:
    """Send an error's body; says how to authenticate when that is what was lacking."""
    response = reply(msgspec.json.encode(body), status, retry_headers(error))
    if error.error_type is ErrorType.UNAUTHENTICATED:
        response.headers["www-authenticate"] = error.challenge or CHALLENGE
    if _is_too_large(error):
        response.headers.update(UNREAD)  # the rest of the body would be taken for a request
    return response


def retry_headers(error: ApiError) -> dict[str, str]:
    """Return the header that says after how many seconds trying again is of use.

    What is unavailable always has it, else clients come back at once or never.
    """
    after = error.retry_after
    if after is None and error.error_type is ErrorType.SERVICE_UNAVAILABLE:
        after = RETRY_SECONDS
    return {} if after is None else {"retry-after": str(after)}


def session_headers(token: str | None, path: str | None = None) -> dict[str, str]:
    """Return headers with the token of a new session; with ``path``, as a cookie for it too."""
    if token is None:
        return {}
    headers = {SESSION_HEADER: token}
    return headers if path is None else headers | {"set-cookie": _cookie(token, path)}


def forgotten_cookie(path: str) -> dict[str, str]:
    """Return the header by which a client forgets the session's cookie."""
    return {"set-cookie": f"{_cookie('', path)}; Max-Age=0"}


def _cookie(token: str, path: str) -> str:
    # Strict: a browser does not send it with what another site's page asks for.
    return f"{SESSION_HEADER}={token}; Path={path}; Secure; HttpOnly; SameSite=Strict"


def stopping() -> ApiError:
    """Make the error of a request that the server's stop cuts short."""
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, message("server.stopping"))


def _is_packed(encoding: str) -> bool:
    match encoding.strip().lower():
        case "identity" | "":
            return False
        case "gzip" | "x-gzip":
            return True
        case other:
            shown = other[:_LONGEST_SHOWN]
            raise ApiError(ErrorType.INVALID_ARGUMENT, message("content.encoding", shown))


def _unpacked(body: bytes, bound: Bound) -> bytes:
    """Unpack a body, and no more of it than a request may have."""
    unpacking = zlib.decompressobj(_GZIP)
    try:
        plain = unpacking.decompress(body, bound.most + 1)
    except zlib.error:
        fail(ErrorType.INVALID_REQUEST, message("content.gzip"))
    if len(plain) > bound.most:
        _too_large(bound)
    if not unpacking.eof or unpacking.unused_data:
        fail(ErrorType.INVALID_REQUEST, message("content.gzip"))
    return plain


def _announced(request: Request) -> int:
    announced = request.headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else 0


def _too_large(bound: Bound) -> None:
    fail(ErrorType.INVALID_REQUEST, message(bound.told, bound.most))


def _is_too_large(error: ApiError) -> bool:
    return bool(error.messages) and error.messages[0].id in _TOO_LARGE


def _require_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != JSON:
        fail(ErrorType.INVALID_REQUEST, message("content.type", content_type[:_LONGEST_SHOWN]))


def _require_utf_8(content_type: str) -> None:
    found = _CHARSET.search(content_type)
    if found and found[1].lower() not in _UTF_8:
        fail(ErrorType.INVALID_ARGUMENT, message("content.charset", found[1][:_LONGEST_SHOWN]))
