"""REST: the operations below /api, and in the legacy dialect below /rest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from openvcha.api.codec.decode import decode_arguments_rest
from openvcha.api.codec.encode import encode_error_legacy, encode_error_rest, encode_rest
from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType
from openvcha.api.operations import Operation, SessionAction
from openvcha.api_server.auth.credentials import from_headers
from openvcha.api_server.http import (
    ANONYMOUS_BODY,
    AUTHENTICATED_BODY,
    client_connection,
    error_response,
    forgotten_cookie,
    json_response,
    off_loop_if_large,
    origin,
    read_body,
    session_headers,
)
from openvcha.api_server.pipeline import Arguments, Call, CallResult, Pipeline
from openvcha.api_server.request import Request
from openvcha.api_server.request_head import require_unambiguous, require_unambiguous_verbs
from openvcha.api_server.response import Response
from openvcha.api_server.routes import Match, Route, Router, api_routes, legacy_routes


@dataclass(frozen=True)
class Dialect:
    """A dialect of REST. ``wrapped``: bodies name their parameters."""

    name: str
    prefix: str
    wrapped: bool
    encode: Callable[[Operation, Any], bytes]
    status: Callable[[Operation], int]
    error: Callable[[ApiError], Any]
    error_status: Mapping[ErrorType, int]


def _plain(operation: Operation, value: Any) -> bytes:
    if operation.reply is None:
        return b""
    return msgspec.json.encode(encode_rest(operation.reply, value))


def _in_value(operation: Operation, value: Any) -> bytes:
    return msgspec.json.encode({"value": encode_rest(operation.reply, value)})


API = Dialect(
    "rest", "/api", False, _plain, lambda operation: operation.status, encode_error_rest, STATUS
)
LEGACY = Dialect(
    "legacy", "/rest", True, _in_value, lambda _: 200, encode_error_legacy, LEGACY_STATUS
)


class RestApp:
    """An ASGI application that serves the operations in one dialect, below its prefix."""

    def __init__(
        self, pipeline: Pipeline, dialect: Dialect, routes: Iterable[Route] | None = None
    ) -> None:
        """``routes`` are the only ones; None: all of the dialect."""
        self._pipeline = pipeline
        self._dialect = dialect
        every = legacy_routes() if dialect is LEGACY else api_routes()
        self._router = Router(every if routes is None else routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = Request(scope, receive)
        path = scope["path"].removeprefix(self._dialect.prefix) or self._dialect.prefix
        try:
            response = await self._respond(request, path)
        except ApiError as error:
            response = self._refuse(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request, path: str) -> Response:
        if request.method == "OPTIONS":
            return json_response(b"", 204, {"allow": ", ".join(sorted(self._router.methods(path)))})
        require_unambiguous(request)
        require_unambiguous_verbs(request)
        match = self._router.find(request.method, path, dict(request.query))
        answer = await self._pipeline.handle(self._call(request, match))
        return self._render(match.operation, answer)

    def _call(self, request: Request, match: Match) -> Call:
        limit = AUTHENTICATED_BODY if match.operation.authenticated else ANONYMOUS_BODY

        async def decode(body: bytes) -> Arguments:
            return await off_loop_if_large(
                len(body),
                decode_arguments_rest,
                match.operation,
                body,
                match.path_parameters,
                request.query,
                self._dialect.wrapped,
            )

        return Call(
            protocol=self._dialect.name,
            operation=match.operation,
            credentials=from_headers(request.headers),
            origin=origin(request),
            client=client_connection(request),
            read=partial(read_body, request, limit),
            decode=decode,
            encode=self._dialect.encode,
        )

    def _render(self, operation: Operation, answer: CallResult) -> Response:
        if answer.error is not None:
            return self._refuse(answer.error)
        headers = session_headers(answer.token, self._dialect.prefix)
        if operation.session is SessionAction.LOG_OUT:
            headers = forgotten_cookie(self._dialect.prefix)
        return json_response(answer.body, self._dialect.status(operation), headers)

    def _refuse(self, error: ApiError) -> Response:
        return error_response(
            self._dialect.error(error), self._dialect.error_status[error.error_type], error
        )
