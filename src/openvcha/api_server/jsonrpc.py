"""vAPI JSON-RPC, as the official SDK speaks it: POST /api, always with HTTP status 200."""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from openvcha.api.codec.decode import decode_arguments_vapi, parse_json
from openvcha.api.codec.encode import encode_error_vapi, encode_vapi
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import OPERATIONS, Operation, by_wire_name
from openvcha.api.secret import Secret
from openvcha.api_server.auth.credentials import Credentials, from_headers
from openvcha.api_server.http import (
    AUTHENTICATED_BODY,
    CLOSE_CONNECTION,
    NO_SESSION_BODY,
    client_connection,
    is_small,
    json_response,
    off_loop_if_large,
    origin,
    read_body,
    retry_headers,
    server_stopping,
    session_headers,
)
from openvcha.api_server.pipeline import Arguments, Call, CallResult, Pipeline, no_body
from openvcha.api_server.request import Request
from openvcha.api_server.request_head import require_unambiguous, require_unambiguous_verbs
from openvcha.api_server.response import Response
from openvcha.store.call_reads import reads_of_call

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
UNAVAILABLE = -32000
"""One of the codes that a server may define: the request cannot be read now."""
_SCHEMES = "com.vmware.vapi.std.security."
_SERVICES = frozenset(operation.service for operation in OPERATIONS)
_CLIENT_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class RpcError(Exception):
    """A request that is not a valid call; ``request_id`` is its id, None if unknown."""

    def __init__(
        self, code: int, text: str, request_id: str | int | None = None, *, unread: bool = False
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.request_id = request_id
        self.unread = unread


@dataclass(frozen=True)
class Invocation:
    """A well-formed call; the operation it names may not exist."""

    id: str | int
    service: str
    operation: str
    input: Any
    credentials: Credentials
    client_id: str | None


class JsonRpc:
    """An ASGI application for POST /api."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = Request(scope, receive)
        try:
            with reads_of_call(time.monotonic()):
                response = await self._respond(request)
        except RpcError as error:
            response = _refuse(error)
        except asyncio.CancelledError:
            # Canceled while reading the body: after that, the pipeline responds itself.
            response = _refuse(RpcError(UNAVAILABLE, server_stopping().messages[0].default_message))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        headers = from_headers(request.headers)
        body = await self._read(request, headers)
        asked = read_invocation(await _parse(body), headers)
        operation = by_wire_name(asked.service, asked.operation)
        if operation is None:
            return _answer(asked.id, CallResult(error=_unknown(asked)))
        answer = await self._pipeline.handle(_call(request, asked, operation, len(body)))
        return _answer(asked.id, answer)

    async def _read(self, request: Request, headers: Credentials) -> bytes:
        """Read a body: without a session in the header a short one, for its other credentials."""
        try:
            require_unambiguous(request)
            require_unambiguous_verbs(request)
            if is_small(request):
                return await read_body(request, NO_SESSION_BODY)
            known = await self._pipeline.has_session(headers, origin(request))
            if known and (here := client_connection(request)) is not None:
                here.mark_recognized()
            return await read_body(request, AUTHENTICATED_BODY if known else NO_SESSION_BODY)
        except ApiError as error:
            away = error.error_type is ErrorType.SERVICE_UNAVAILABLE
            code = UNAVAILABLE if away else INVALID_REQUEST
            raise RpcError(code, error.messages[0].default_message, unread=True) from None


def read_invocation(value: Any, headers: Credentials) -> Invocation:
    """Read the envelope of a call; `headers` apply if it has no credentials. Raises RpcError."""
    if not isinstance(value, dict):
        raise RpcError(INVALID_REQUEST, "The request is not an object.")
    request_id = _id(value.get("id"))
    if value.get("jsonrpc") != "2.0" or not isinstance(value.get("method"), str):
        raise RpcError(INVALID_REQUEST, "The request is not JSON-RPC 2.0.", request_id)
    if value["method"] != "invoke":
        raise RpcError(METHOD_NOT_FOUND, "The only method is invoke.", request_id)
    try:
        return _invocation(request_id, value.get("params"), headers)
    except _ParamsError as error:
        raise RpcError(INVALID_PARAMS, str(error), request_id) from None


class _ParamsError(Exception):
    """The parameters of `invoke` are invalid."""


def _invocation(request_id: str | int, params: Any, headers: Credentials) -> Invocation:
    known = _object(params, "params")
    context = _section(known, "ctx")
    application = _section(context, "appCtx")
    return Invocation(
        id=request_id,
        service=_text(known, "serviceId"),
        operation=_text(known, "operationId"),
        input=_object(known.get("input"), "input"),
        credentials=_credentials(_section(context, "securityCtx"), headers),
        client_id=_client_id(application.get("opId")),
    )


def _credentials(context: dict[str, Any], headers: Credentials) -> Credentials:
    scheme = context.get("schemeId")
    match scheme.removeprefix(_SCHEMES) if isinstance(scheme, str) else scheme:
        case None | "no_authentication":
            return headers
        case "session_id":
            return _session(_text(context, "sessionId"), headers)
        case "user_pass":
            return Credentials(
                user=_text(context, "userName"), password=Secret(_text(context, "password"))
            )
        case str():
            return Credentials()  # an unsupported scheme counts as no credentials
    raise _ParamsError("schemeId must be a string.")


def _session(token: str, headers: Credentials) -> Credentials:
    """Return the session of the body; the headers may repeat it, but not have another one."""
    sent = headers.token
    if sent is not None and sent.reveal() != token:
        raise _ParamsError("The session in securityCtx is not the one in the headers.")
    return Credentials(token=Secret(token))


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section of the context, empty if absent."""
    value = values.get(name)
    return {} if value is None else _object(value, name)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ParamsError(f"{name} must be an object.")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise _ParamsError(f"{name} must be a string.")
    return value


def _id(value: Any) -> str | int:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise RpcError(INVALID_REQUEST, "The id must be a string or an integer.")


def _client_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _CLIENT_ID.fullmatch(value) else None


async def _parse(body: bytes) -> Any:
    try:
        return await off_loop_if_large(len(body), parse_json, body)
    except ApiError as error:
        raise RpcError(PARSE_ERROR, error.messages[0].default_message) from None


def _unknown(asked: Invocation) -> ApiError:
    if asked.service in _SERVICES:
        text = message("vapi.method.input.invalid.method", asked.operation, asked.service)
    else:
        text = message("vapi.method.input.invalid.interface", asked.service)
    return ApiError(ErrorType.OPERATION_NOT_FOUND, text)


def _call(request: Request, asked: Invocation, operation: Operation, size: int) -> Call:
    async def decode(_: bytes) -> Arguments:
        return await off_loop_if_large(size, decode_arguments_vapi, operation, asked.input)

    return Call(
        protocol="json-rpc",
        operation=operation,
        credentials=asked.credentials,
        origin=origin(request),
        client=client_connection(request),
        read=no_body,  # it was read with the envelope
        decode=decode,
        encode=_encode,
        client_id=asked.client_id,
    )


def _encode(operation: Operation, value: Any) -> bytes:
    return msgspec.json.encode({"output": encode_vapi(operation.reply, value)})


def _answer(request_id: str | int, answer: CallResult) -> Response:
    if answer.error is not None:
        result = msgspec.json.encode({"error": encode_error_vapi(answer.error)})
    else:
        result = answer.body
    envelope = {"jsonrpc": "2.0", "id": request_id, "result": msgspec.Raw(result)}
    headers = session_headers(answer.token) | (retry_headers(answer.error) if answer.error else {})
    return json_response(msgspec.json.encode(envelope), headers=headers)


def _refuse(error: RpcError) -> Response:
    envelope = {
        "jsonrpc": "2.0",
        "id": error.request_id,
        "error": {"code": error.code, "message": error.text},
    }
    headers = retry_headers(server_stopping()) if error.code == UNAVAILABLE else {}
    if error.unread:
        headers |= CLOSE_CONNECTION
    return json_response(msgspec.json.encode(envelope), headers=headers)
