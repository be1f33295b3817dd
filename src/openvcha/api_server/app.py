"""The ASGI application: every protocol at its path."""

import hashlib
from functools import cache

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from openvcha.api.codec.encode import encode_error_rest
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.api_server.http import error_response
from openvcha.api_server.jsonrpc import JsonRpc
from openvcha.api_server.openapi import document
from openvcha.api_server.pipeline import Pipeline
from openvcha.api_server.request import Request
from openvcha.api_server.response import Response
from openvcha.api_server.rest import API, LEGACY, RestApp
from openvcha.api_server.routes import api_routes, unknown_path
from openvcha.api_server.server.middleware import EdgeMiddleware
from openvcha.api_server.stream import EventStream
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.operations.caller import Dispatcher

JOIN = "org.openvcha.joining.join"


def build(
    dispatcher: Dispatcher,
    users: Users,
    sessions: Sessions,
    *,
    events: EventLog,
    audit: AuditLog,
    pipeline: Pipeline | None = None,
) -> ASGIApp:
    """Return the ASGI application."""
    made = pipeline or Pipeline(dispatcher, users, sessions, audit)
    return EdgeMiddleware(
        _Protocols(made, events), lambda failure: made.internal_error(failure, None)
    )


def build_joins(pipeline: Pipeline) -> ASGIApp:
    """Return the ASGI application for the HA network: it only lets nodes join.

    It shares the pipeline, and so its limits, with the application for clients.
    """
    routes = [route for route in api_routes() if route.operation.id == JOIN]
    rest = RestApp(pipeline, API, routes)

    async def joins(scope: Scope, receive: Receive, send: Send) -> None:
        app = rest if scope["path"].startswith("/api/") else _not_found
        await app(scope, receive, send)

    return EdgeMiddleware(joins, lambda failure: pipeline.internal_error(failure, None))


class _Protocols:
    """A dispatcher of requests to protocols; a framework would cost more than most responses."""

    def __init__(self, pipeline: Pipeline, events: EventLog) -> None:
        self._rest = EventStream(pipeline, events, RestApp(pipeline, API))
        self._json_rpc = JsonRpc(pipeline)
        self._legacy = RestApp(pipeline, LEGACY)
        self._open_api = _OpenApi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._at(scope["path"], scope["method"])(scope, receive, send)

    def _at(self, path: str, method: str) -> ASGIApp:
        if path.startswith("/api/"):
            return self._rest
        if path == "/api":
            return self._json_rpc if method == "POST" else self._rest
        if path.startswith("/rest/"):
            return self._legacy
        return self._open_api if path == "/openapi.json" else _not_found


class _OpenApi:
    """An ASGI application for the OpenAPI document, which is public: no authentication."""

    def __init__(self) -> None:
        self._document, self._tag = _encoded_document()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["method"] in {"GET", "HEAD"}
        response = self._response(Request(scope, receive)) if known else _missing(scope)
        await response(scope, receive, send)

    def _response(self, asked: Request) -> Response:
        """Return the document, or 304 if the client has the current one."""
        known = asked.headers.get("if-none-match", "")
        tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
        same = self._tag in tags or tags == ["*"]
        # Clients may cache it, and must revalidate.
        headers = {"etag": self._tag, "cache-control": "no-cache"}
        return Response(b"" if same else self._document, 304 if same else 200, headers)


@cache
def _encoded_document() -> tuple[bytes, str]:
    """Return the document and its entity tag, which are the same for every server."""
    encoded = msgspec.json.encode(document.document())
    return encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await _missing(scope)(scope, receive, send)


def _missing(scope: Scope) -> Response:
    error = unknown_path(scope["path"])
    return error_response(encode_error_rest(error), 404, error)
