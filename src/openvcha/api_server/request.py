"""An HTTP request, whose parts are parsed on demand, once each."""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope


class ClientDisconnectedError(Exception):
    """The client disconnected before its request was complete."""


class Request:
    """A request. ``headers`` has the first value of each name; names are in lower case."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    @property
    def repeats(self) -> bool:
        """Return whether any header is repeated."""
        return len(self.headers) != len(self.scope["headers"])

    @cached_property
    def names(self) -> list[str]:
        """Return the names of all headers, including repetitions."""
        return [name.decode("latin-1") for name, _ in self.scope["headers"]]

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Return the name-value pairs of the query, in order."""
        text: bytes = self.scope["query_string"]
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else []

    @property
    def has_body(self) -> bool:
        """Return whether the head announces a body, even of unknown length."""
        length = self.headers.get("content-length", "0")
        return length != "0" or "transfer-encoding" in self.headers

    @property
    def state(self) -> dict[str, Any]:
        """Return the server's state of the connection."""
        found: dict[str, Any] = self.scope.get("state", {})
        return found

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the chunks of the body as they arrive. Raises ClientDisconnectedError."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            yield message.get("body", b"")
            more = message.get("more_body", False)
