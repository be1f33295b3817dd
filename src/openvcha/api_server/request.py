"""One HTTP request as the protocols read it: each part once, and only when it is asked for."""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope


class GoneError(Exception):
    """The client has gone before its request was whole."""


class Request:
    """A request. ``headers`` has of each name what came first, names in small letters."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    @property
    def repeats(self) -> bool:
        """Return whether any header came more than once."""
        return len(self.headers) != len(self.scope["headers"])

    @cached_property
    def names(self) -> list[str]:
        """The names of all headers, as often as they came."""
        return [name.decode("latin-1") for name, _ in self.scope["headers"]]

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The pairs of the query as they came."""
        text: bytes = self.scope["query_string"]
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else []

    @property
    def has_body(self) -> bool:
        """Return whether the head announces a body, if only of unknown length."""
        length = self.headers.get("content-length", "0")
        return length != "0" or "transfer-encoding" in self.headers

    @property
    def state(self) -> dict[str, Any]:
        """What the server says of the connection."""
        found: dict[str, Any] = self.scope.get("state", {})
        return found

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body as they come. Raises GoneError."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            yield message.get("body", b"")
            more = message.get("more_body", False)
