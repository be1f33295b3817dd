"""What the protocols over HTTP have in common: bodies in, JSON out."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from openvcha.api.decode import MAX_BYTES
from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.protocols.credentials import SESSION_HEADER
from openvcha.protocols.throttle import CHALLENGE

JSON = "application/json"
UNREAD = {"connection": "close"}


async def read_body(request: Request) -> bytes:
    """Give the body; raises ApiError INVALID_REQUEST over 1 MiB or of a type other than JSON."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BYTES:
        _too_large()
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            _too_large()
    if body:
        _require_json(request.headers.get("content-type"))
    return bytes(body)


def origin(request: Request) -> str:
    """Give the address that the request came from."""
    return request.client.host if request.client else "unknown"


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON that is written already, or with nothing."""
    kind = JSON if body else None
    response = Response(body, status_code=status, headers=headers, media_type=kind)
    response.headers["cache-control"] = "no-store"
    return response


def refuse(body: Any, status: int, error: ApiError) -> Response:
    """Answer with an error's body; says how to authenticate when that is what was lacking."""
    response = reply(msgspec.json.encode(body), status)
    if error.error_type is ErrorType.UNAUTHENTICATED:
        response.headers["www-authenticate"] = error.challenge or CHALLENGE
    if _is_too_large(error):
        response.headers.update(UNREAD)  # the rest of the body would be taken for a request
    return response


def session_headers(token: str | None) -> dict[str, str]:
    """Give the header that also carries the token of a new session."""
    return {} if token is None else {SESSION_HEADER: token}


def _too_large() -> None:
    fail(ErrorType.INVALID_REQUEST, message("decode.too.large", MAX_BYTES))


def _is_too_large(error: ApiError) -> bool:
    return bool(error.messages) and error.messages[0].id.endswith("decode.too.large")


def _require_json(content_type: str | None) -> None:
    if content_type is not None and content_type.partition(";")[0].strip().lower() != JSON:
        fail(ErrorType.INVALID_REQUEST, message("content.type", content_type))
