"""An HTTP client that goes with the TLS context of the moment, and reads no answer without end."""

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2

TlsSource = Callable[[], ssl.SSLContext]
"""Gives the context that counts now: the same object for as long as nothing has changed."""


class AnswerTooLong(httpx2.RemoteProtocolError):
    """An answer is longer than its reader takes, or packed: then nobody knows how long it is."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, whatever its status."""

    status: int
    content: bytes


class TlsClient:
    """Gives an HTTP client; a new one from the moment that the source gives another context.

    Requests under way end with the client that they began with.
    """

    def __init__(
        self, tls: TlsSource, timeout: float = 5.0, limits: httpx2.Limits | None = None
    ) -> None:
        self._tls = tls
        self._timeout = timeout
        self._limits = limits or httpx2.Limits()
        self._context = tls()
        self._clients = [self._client()]

    def current(self) -> httpx2.AsyncClient:
        """Give the client for the next request."""
        context = self._tls()
        if context is not self._context:
            self._context = context
            self._clients.append(self._client())
        return self._clients[-1]

    async def ask(self, method: str, url: str, most: int, **options: Any) -> Reply:
        """Send a request; read an answer of ``most`` bytes at the most. Raises httpx2.HTTPError."""
        async with self.current().stream(method, url, **options) as response:
            return Reply(response.status_code, await read_whole(response, most))

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=self._context,
            timeout=self._timeout,
            limits=self._limits,
            headers={"accept-encoding": "identity"},
            trust_env=False,
        )


async def read_whole(response: httpx2.Response, most: int) -> bytes:
    """Read an answer to its end. Raises AnswerTooLong."""
    data = bytearray()
    async for piece in _pieces(response):
        data += piece
        if len(data) > most:
            raise AnswerTooLong(f"the answer is longer than {most} bytes")
    return bytes(data)


async def read_lines(response: httpx2.Response, most: int) -> AsyncIterator[bytes]:
    """Read an answer line by line, without their ends. Raises AnswerTooLong for a long line."""
    begun = bytearray()
    async for piece in _pieces(response):
        first, *others = piece.split(b"\n")
        begun += first
        for line in others:
            yield bytes(begun)
            begun = bytearray(line)
        if len(begun) > most:
            raise AnswerTooLong(f"a line of the answer is longer than {most} bytes")
    if begun:
        yield bytes(begun)


def _pieces(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Return what comes, as it comes: what unpacks itself has no bound."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise AnswerTooLong("the answer is packed")
    return response.aiter_raw()
