"""REST: the table below /api, and in the older form below /rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from openvcha.api.codec.decode import decode_arguments_rest
from openvcha.api.codec.encode import encode_error_legacy, encode_error_rest, encode_rest
from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType
from openvcha.api.operations import Operation
from openvcha.api_server.auth.credentials import SESSION_SERVICE, from_headers
from openvcha.api_server.http import (
    ANYBODY,
    KNOWN,
    apart,
    forgotten_cookie,
    guest,
    origin,
    read_body,
    refuse,
    reply,
    session_headers,
)
from openvcha.api_server.pipeline import Answer, Arguments, Call, Pipeline
from openvcha.api_server.request import Request
from openvcha.api_server.request_head import require_clear, require_clear_verbs
from openvcha.api_server.response import Response
from openvcha.api_server.routes import Match, Router, api_routes, legacy_routes


@dataclass(frozen=True)
class Form:
    """In what the two kinds of REST differ. ``wrapped``: bodies name their parameters."""

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


API = Form(
    "rest", "/api", False, _plain, lambda operation: operation.status, encode_error_rest, STATUS
)
LEGACY = Form("legacy", "/rest", True, _in_value, lambda _: 200, encode_error_legacy, LEGACY_STATUS)


class Rest:
    """An ASGI application that serves the table in one form, below its prefix."""

    def __init__(self, pipeline: Pipeline, form: Form) -> None:
        self._pipeline = pipeline
        self._form = form
        self._router = Router(legacy_routes() if form is LEGACY else api_routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        path = scope["path"].removeprefix(self._form.prefix) or self._form.prefix
        try:
            response = await self._respond(request, path)
        except ApiError as error:
            response = self._refuse(error)
        await response(scope, receive, send)

    async def _respond(self, request: Request, path: str) -> Response:
        if request.method == "OPTIONS":
            return reply(b"", 204, {"allow": ", ".join(sorted(self._router.methods(path)))})
        require_clear(request)
        require_clear_verbs(request)
        match = self._router.find(request.method, path, dict(request.query))
        answer = await self._pipeline.answer(self._call(request, match))
        return self._render(match.operation, answer)

    def _call(self, request: Request, match: Match) -> Call:
        async def decode() -> Arguments:
            body = await read_body(request, KNOWN if match.operation.authenticated else ANYBODY)
            return await apart(
                len(body),
                decode_arguments_rest,
                match.operation,
                body,
                match.path_parameters,
                request.query,
                self._form.wrapped,
            )

        return Call(
            protocol=self._form.name,
            operation=match.operation,
            credentials=from_headers(request.headers),
            origin=origin(request),
            guest=guest(request),
            decode=decode,
            encode=self._form.encode,
        )

    def _render(self, operation: Operation, answer: Answer) -> Response:
        if answer.error is not None:
            return self._refuse(answer.error)
        headers = session_headers(answer.token, self._form.prefix)
        if operation.service == SESSION_SERVICE and operation.name == "delete":
            headers = forgotten_cookie(self._form.prefix)
        return reply(answer.body, self._form.status(operation), headers)

    def _refuse(self, error: ApiError) -> Response:
        return refuse(self._form.error(error), self._form.error_status[error.error_type], error)
