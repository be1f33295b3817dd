"""An HTTP response that is sent at once."""

from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

JSON = "application/json"
_JSON = (b"content-type", JSON.encode())
_NOT_KEPT = (b"cache-control", b"no-store")


class Response:
    """Encoded JSON, or an empty body; an ASGI application that responds with it."""

    def __init__(
        self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers = dict(headers or ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        start = {"type": "http.response.start", "status": self.status, "headers": self._written()}
        await send(start)
        await send({"type": "http.response.body", "body": self.body})

    def _written(self) -> list[tuple[bytes, bytes]]:
        written = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        if self.status not in {204, 304}:
            written.append((b"content-length", b"%d" % len(self.body)))
        if self.body:
            written.append(_JSON)
        if "cache-control" not in self.headers:
            written.append(_NOT_KEPT)
        return written
