"""The events as a stream (text/event-stream), which resumes where a client stopped reading."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from openvcha.api.codec.decode import decode_arguments_rest
from openvcha.api.codec.encode import encode_error_rest, encode_rest
from openvcha.api.errors import STATUS, ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.operations import by_id
from openvcha.api.structures import EventFilterSpec, EventInfo
from openvcha.api_server.auth.credentials import from_headers
from openvcha.api_server.http import client_connection, error_response, origin
from openvcha.api_server.pipeline import Arguments, Call, Pipeline, no_body
from openvcha.api_server.request import Request
from openvcha.api_server.request_head import require_unambiguous, require_unambiguous_verbs
from openvcha.api_server.server.connection import STOPPING
from openvcha.events.log import EventLog, event_number
from openvcha.store.errors import StoreError
from openvcha.system.structlog_light import structlog

OPERATION = by_id("org.openvcha.events.list")
PATH = f"/api{OPERATION.path}"
CONTENT_TYPE = "text/event-stream"
MAX_OUTLIVING_SECONDS = 5.0
"""How long a stream may outlive its session or privilege.

Half of it is the interval of checks and keep-alives, the other half the time for a client to read.
"""
MAX_STREAMS = 64
MAX_STREAMS_PER_USER = 16
"""And at most half of the free places, so that other users find one."""
RECONNECT = b"retry: 1000\n\n"
KEEP_ALIVE = b": alive\n\n"
ENDING_ERRORS = frozenset({ErrorType.UNAUTHENTICATED, ErrorType.UNAUTHORIZED})
HEADERS = [(b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store")]

_log = structlog.get_logger(__name__)


class EventStream:
    """An ASGI application that streams the events on request, else calls ``others``."""

    def __init__(self, pipeline: Pipeline, events: EventLog, others: ASGIApp) -> None:
        self._pipeline = pipeline
        self._events = events
        self._others = others
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] != PATH or not _wanted(request := Request(scope, receive)):
            await self._others(scope, receive, send)
            return
        call = _call(request)
        try:
            require_unambiguous(request)
            require_unambiguous_verbs(request)
            user, after = await self._begin(request, call)  # before it takes a slot
            async with self._slot(user):
                await self._answer(request, call, after, send)
        except ApiError as error:
            response = error_response(encode_error_rest(error), STATUS[error.error_type], error)
            await response(scope, receive, send)

    @asynccontextmanager
    async def _slot(self, user: str) -> AsyncIterator[None]:
        free = MAX_STREAMS - self._open.total()
        share = max(1, min(MAX_STREAMS_PER_USER, free // 2))
        if free <= 0 or self._open[user] >= share:
            fail(ErrorType.SERVICE_UNAVAILABLE, message("event.streams", self._open.total()))
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
            self._open += Counter()  # drop counts of 0

    async def _begin(self, request: Request, call: Call) -> tuple[str, str]:
        """Authorize the client; return its user and the id after which to read.

        Without such an id, the client receives new events only.
        """
        principal, arguments = await self._pipeline.authorize(call)
        spec = arguments.get("filter") or EventFilterSpec()
        after = request.headers.get("last-event-id") or spec.after
        try:
            after = after or await self._events.last_id()
        except StoreError as failure:
            raise self._pipeline.error(failure, call) from failure
        event_number(after)
        return principal.caller.user, after

    async def _answer(self, request: Request, call: Call, after: str, send: Send) -> None:
        """Stream until the end, or until the client disconnects."""
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        stopping = request.state.get(STOPPING) or asyncio.Event()
        streaming = asyncio.create_task(self._pump(call, after, stopping, send))
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({streaming, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = streaming.done()
            for task in (streaming, gone):
                task.cancel()
            await asyncio.wait({streaming, gone})
        if ended and isinstance(streaming.exception(), TimeoutError):
            _log.info("event stream ended", reason="the client does not read")
            await _abort(request)
        elif ended:
            streaming.result()

    async def _pump(self, call: Call, after: str, stopping: asyncio.Event, send: Send) -> None:
        """Send the events. Raises TimeoutError if the client does not read them."""
        async with aclosing(self._pieces(call, after, stopping)) as pieces:
            async for piece in pieces:
                async with _time_to_read():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        async with _time_to_read():
            await send({"type": "http.response.body", "body": b""})

    async def _pieces(
        self, call: Call, after: str, stopping: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        yield RECONNECT
        clock = asyncio.get_running_loop().time
        check = clock() + MAX_OUTLIVING_SECONDS / 2
        stop = asyncio.ensure_future(stopping.wait())
        async with aclosing(self._events.follow(after)) as follow:
            news = asyncio.ensure_future(anext(follow))
            try:
                while not stop.done():
                    rest = max(0.0, check - clock())
                    await asyncio.wait(
                        {news, stop}, timeout=rest, return_when=asyncio.FIRST_COMPLETED
                    )
                    if clock() >= check:
                        if not await self._still_permitted(call):
                            return
                        check = clock() + MAX_OUTLIVING_SECONDS / 2
                        yield KEEP_ALIVE
                    if news.done():
                        yield _written(news.result())
                        news = asyncio.ensure_future(anext(follow))
            except StoreError as error:
                _log.info("event stream ended", reason=str(error))
            finally:
                news.cancel()
                stop.cancel()
                await asyncio.wait({news, stop})

    async def _still_permitted(self, call: Call) -> bool:
        """Authorize again; keep the stream while the store is unavailable: nothing is sent then."""
        try:
            await self._pipeline.authorize(call)
        except ApiError as error:
            return error.error_type not in ENDING_ERRORS
        return True


def _wanted(request: Request) -> bool:
    asked = request.headers.get("accept", "").lower()
    return request.method == OPERATION.method and CONTENT_TYPE in asked


def _call(request: Request) -> Call:
    async def decode(_: bytes) -> Arguments:
        query = request.query
        return decode_arguments_rest(OPERATION, b"", {}, query, False)

    return Call(
        protocol="stream",
        operation=OPERATION,
        credentials=from_headers(request.headers),
        origin=origin(request),
        client=client_connection(request),
        read=no_body,
        decode=decode,
        encode=lambda *_: b"",
    )


def _written(events: Iterable[EventInfo]) -> bytes:
    return b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (
            event.id.encode(),
            event.type.encode(),
            msgspec.json.encode(encode_rest(EventInfo, event)),
        )
        for event in events
    )


def _time_to_read() -> asyncio.Timeout:
    return asyncio.timeout(MAX_OUTLIVING_SECONDS / 2)


async def _abort(request: Request) -> None:
    """Abort the connection, whose buffers are full, and wait for its end."""
    if (client := client_connection(request)) is not None:
        client.end()
        await _disconnected(request)


async def _disconnected(request: Request) -> None:
    """Wait until the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # the body is not used
