"""The application: every protocol at its place."""

import hashlib
from collections.abc import Sequence

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from openvcha.api.encode import encode_error_rest
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.protocols import openapi
from openvcha.protocols.front import Front
from openvcha.protocols.http import refuse, reply
from openvcha.protocols.jsonrpc import JsonRpc
from openvcha.protocols.pipeline import Pipeline
from openvcha.protocols.rest import API, LEGACY, Rest
from openvcha.protocols.routes import unknown_path
from openvcha.protocols.sessions import Sessions
from openvcha.protocols.stream import EventStream
from openvcha.protocols.users import Users
from openvcha.service.call import Dispatcher


def build(
    dispatcher: Dispatcher,
    users: Users,
    sessions: Sessions,
    *,
    events: EventLog,
    audit: AuditLog,
    pipeline: Pipeline | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Make the ASGI application. `routes` are further ones (pages), tried after the protocols."""
    pipeline = pipeline or Pipeline(dispatcher, users, sessions, audit)
    rest = EventStream(pipeline, events, Rest(pipeline, API))
    app = Starlette(
        routes=[
            Route("/api", _ByMethod({"POST": JsonRpc(pipeline)}, rest)),
            Mount("/api", rest),
            Mount("/rest", Rest(pipeline, LEGACY)),
            Route("/openapi.json", _OpenApi()),
            *routes,
        ],
        middleware=[Middleware(Front, internal=lambda failure: pipeline.internal(failure, None))],
    )
    app.router.redirect_slashes = False
    app.router.default = _not_found
    return app


class _ByMethod:
    """Gives a request to the application of its method, or to the other one."""

    def __init__(self, methods: dict[str, ASGIApp], other: ASGIApp) -> None:
        self._methods = methods
        self._other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._methods.get(scope["method"], self._other)
        await app(scope, receive, send)


class _OpenApi:
    """Serves the description of the API; it is no secret."""

    def __init__(self) -> None:
        self._document = msgspec.json.encode(openapi.document())
        self._tag = f'"{hashlib.sha256(self._document).hexdigest()[:32]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["method"] in {"GET", "HEAD"}
        response = self._response(Headers(scope=scope)) if known else _missing(scope)
        await response(scope, receive, send)

    def _response(self, asked: Headers) -> Response:
        """Answer with the document, or with 304 to who has this one."""
        tags = [tag.strip().removeprefix("W/") for tag in asked.get("if-none-match", "").split(",")]
        same = self._tag in tags or tags == ["*"]
        response = reply(b"" if same else self._document, 304 if same else 200)
        response.headers["etag"] = self._tag
        response.headers["cache-control"] = "no-cache"  # keep it, and ask whether it is the same
        return response


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await _missing(scope)(scope, receive, send)


def _missing(scope: Scope) -> Response:
    error = unknown_path(scope["path"])
    return refuse(encode_error_rest(error), 404, error)
