"""An HTTP client that goes with the TLS context of the moment."""

import ssl
from collections.abc import Callable

import httpx2

TlsSource = Callable[[], ssl.SSLContext]
"""Gives the context that counts now: the same object for as long as nothing has changed."""


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

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=self._context, timeout=self._timeout, limits=self._limits, trust_env=False
        )
