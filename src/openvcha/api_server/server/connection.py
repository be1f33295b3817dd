"""One HTTP connection: uvicorn's, with a deadline for slow clients and JSON for bad requests."""

import asyncio
import re
from http import HTTPStatus
from typing import Any, ClassVar, Final

import h11
import msgspec
from h11._readers import ChunkedReader
from uvicorn.protocols.http.h11_impl import H11Protocol

from openvcha.api.codec.encode import encode_error_rest
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.api_server.connection_limits import CLIENT, ClientConnection
from openvcha.api_server.http import SECURITY_HEADERS
from openvcha.api_server.response import JSON

CLOSE_GRACE_SECONDS = 0.2
MAX_HEADERS: Final = 100
"""Each header costs several microseconds of the loop, even before authentication."""
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_FOLDED_LINE: Final = re.compile(rb"\n[ \t]")
"""A line that continues the one before (RFC 9112, 5.2)."""
STOPPING = "stopping"
"""Key in the state of each request: an event that is set when the server stops."""


class Connection(H11Protocol):
    """A connection with `request_seconds` for a client to send a complete request.

    The time runs from the start of the connection, and then from each request's first byte; idle
    time between two requests is subject to uvicorn's keep-alive timeout.
    """

    request_seconds: ClassVar[float] = 30.0
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self.config.h11_max_incomplete_event_size is not None:
            self.conn = _Http(self.config.h11_max_incomplete_event_size)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # like uvicorn
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, and start or stop the timer."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Continue with the next request, part of which may have arrived."""
        super().on_response_complete()
        self._watch()
        if self.app_state[STOPPING].is_set():
            self._abort_soon()

    def pause_writing(self) -> None:
        """Count as idle while the client does not read its response."""
        super().pause_writing()
        self._note()

    def resume_writing(self) -> None:
        """Count as busy again."""
        super().resume_writing()
        self._note()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Respond to an invalid HTTP request with a standard error instead of uvicorn's text."""
        if isinstance(self.conn, _Http) and self.conn.has_too_many_headers:
            self._end(431, message("request.headers", MAX_HEADERS))
        else:
            self._end(400, message("request.malformed"))

    def _end(self, status: int, reason: LocalizableMessage) -> None:
        """Send a response unless one was sent already, and close."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            error = ApiError(ErrorType.INVALID_REQUEST, reason)
            body = msgspec.json.encode(encode_error_rest(error))
            headers = [
                (b"content-type", JSON.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
                *SECURITY_HEADERS,
            ]
            response = h11.Response(
                status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
            )
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """Close when idle, without waiting for the client to close."""
        super().shutdown()
        self._abort_soon()

    def _abort_soon(self) -> None:
        """Abort a closing connection soon, since the client may keep it open."""
        if self.transport.is_closing():
            self.loop.call_later(CLOSE_GRACE_SECONDS, self.transport.abort)

    def _note(self) -> None:
        """Record whether the connection is busy or may be evicted."""
        client: ClientConnection | None = self.app_state.get(CLIENT)
        if client is not None:
            cycle = self.cycle
            asked = cycle is not None and not cycle.more_body and not cycle.response_complete
            client.set_busy(asked and not self.flow.write_paused)

    def _watch(self) -> None:
        self._note()
        if self._awaits_more() and not self.transport.is_closing():
            self._start_timer()
        else:
            self._stop_timer()

    def _awaits_more(self) -> bool:
        begun = bool(self.conn.trailing_data[0])
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and begun)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        """End an incomplete request: with 408 if it has begun."""
        self._timer = None
        if not self._awaits_more():
            self.transport.abort()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # The reader of the body learns that no more will arrive.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._end(408, message("request.slow", f"{self.request_seconds:g}"))


class _Http(h11.Connection):
    """h11 with limits for the head: its size, however packets are split, and its headers."""

    def __init__(self, max_head_bytes: int) -> None:
        super().__init__(h11.SERVER, max_head_bytes)
        self._max_head_bytes = max_head_bytes
        self._checked_bytes = self._lines = 0
        self.has_too_many_headers = False

    def next_event(self) -> Any:
        """Return the next event. Raises RemoteProtocolError, also for a head beyond the limits."""
        if self.their_state is not h11.IDLE:
            return super().next_event()
        received = self.trailing_data[0]
        self._check_head(received)
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._checked_bytes = self._lines = 0
            _require_one_length(event)
            used = len(received) - len(self.trailing_data[0])
            if used > self._max_head_bytes:
                raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
            if isinstance(self._reader, ChunkedReader):
                self._reader = _ChunksWithoutTrailers()
        return event

    def _check_head(self, received: bytes) -> None:
        """Check what h11 accepts: any number of headers, and ends of lines that are ambiguous.

        Each byte is scanned once, in however many pieces the head arrives; the bytes before a new
        one are scanned again only as far as a pattern that ends there may begin among them.
        """
        start = self._checked_bytes
        found = _END_OF_HEAD.search(received, max(start - 2, 0))
        end = found.end() if found else len(received)
        lines = received.count(b"\n", start, end)
        whole = received.count(b"\r\n", max(start - 1, 0), end)
        self._checked_bytes, self._lines = end, self._lines + lines
        if self._lines > MAX_HEADERS + (2 if found else 1):
            self.has_too_many_headers = True
            raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        if lines > whole or _FOLDED_LINE.search(received, max(start - 1, 0), end):
            raise h11.RemoteProtocolError("a line of the head is ambiguous")


class _ChunksWithoutTrailers(ChunkedReader):
    """h11's reader of a chunked body, which refuses headers after it: h11 parses any number."""

    def __call__(self, buf: Any) -> Any:
        if self._reading_trailer and not b"\r\n".startswith(bytes(buf)[:2]):
            raise h11.RemoteProtocolError("headers follow the body")
        return super().__call__(buf)


def _require_one_length(head: h11.Request) -> None:
    """Refuse a body with two lengths: a proxy may use the other one, and end it elsewhere."""
    names = {name for name, _ in head.headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise h11.RemoteProtocolError("the body has two lengths")
