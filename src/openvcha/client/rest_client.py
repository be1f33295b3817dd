"""The REST client of the command line and the lab."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
import msgspec

from openvcha.api.secret import Secret
from openvcha.client.errors import RequestRefused, ServerUnreachable, ServerUntrusted

REQUEST_SECONDS = 30.0
FOLLOW_SECONDS = 0.1
SILENCE_SECONDS = 90.0
LOGIN = ("POST", "/session")
UNFINISHED_STATUSES = frozenset({"PENDING", "RUNNING", "BLOCKED"})
Query = Sequence[tuple[str, str]]


class ApiClient:
    """A client of /api at ``server`` (https://HOST:PORT); an async context manager."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self.server = server.rstrip("/")
        self._basic: tuple[str, Secret] | None = None
        self._http = httpx2.AsyncClient(
            base_url=f"{self.server}/api", verify=tls, timeout=REQUEST_SECONDS, trust_env=False
        )

    async def __aenter__(self) -> Self:
        """Enter the context."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def session(self, user: str, password: Secret) -> AsyncIterator[None]:
        """Hold a session during a block. Raises RequestRefused, ServerUnreachable."""
        self._basic = user, password
        token = await self.call("POST", "/session")
        self._http.headers["vmware-api-session-id"] = token
        try:
            yield
        finally:
            await self._log_out()

    async def answers(self) -> bool:
        """Return whether the API responds, without logging in."""
        try:
            return (await self._send("GET", "/session")).status_code == 401
        except ServerUnreachable:
            return False

    async def call(self, method: str, path: str, body: Any = None, query: Query = ()) -> Any:
        """Call an operation and return its result. Raises RequestRefused, ServerUnreachable."""
        target = f"{path}{'&' if '?' in path else '?'}{urlencode(query)}" if query else path
        options: dict[str, Any] = {}
        if (method, path) == LOGIN and self._basic:
            user, password = self._basic
            options["auth"] = user, password.reveal()
        return _value(await self._send(method, target, json=body, **options))

    async def follow(
        self, task: str, silence: float = SILENCE_SECONDS
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield a task's info at each change, until it has ended; survives a failover.

        Raises RequestRefused; ServerUnreachable after ``silence`` seconds without a response.
        """
        shown: Any = None
        clock = asyncio.get_running_loop().time
        last_reply = clock()
        while True:
            try:
                info = await self.call("GET", f"/cis/tasks/{task}")
            except (ServerUnreachable, RequestRefused) as error:
                away = isinstance(error, ServerUnreachable) or error.status == 503
                if not away or clock() - last_reply > silence:
                    raise
                await asyncio.sleep(FOLLOW_SECONDS)
                continue
            last_reply = clock()
            if info != shown:
                shown = info
                yield info
            if info["status"] not in UNFINISHED_STATUSES:
                return
            await asyncio.sleep(FOLLOW_SECONDS)

    async def events(
        self, after: str, silence: float = SILENCE_SECONDS
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the events after an id, including new ones; survives a failover.

        Raises RequestRefused; ServerUnreachable after ``silence`` seconds without a response.
        """
        clock = asyncio.get_running_loop().time
        last_reply = clock()
        while True:
            try:
                async with aclosing(self._stream(after)) as stream:
                    async for event in stream:
                        last_reply = clock()
                        if event is not None:
                            after = event["id"]
                            yield event
            except (ServerUnreachable, RequestRefused) as error:
                away = isinstance(error, ServerUnreachable) or error.status == 503
                if not away or clock() - last_reply > silence:
                    raise
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _stream(self, after: str) -> AsyncGenerator[dict[str, Any] | None, None]:
        """Yield the events of one connection; None for a keep-alive."""
        headers = {"accept": "text/event-stream", "last-event-id": after}
        path, patience = "/openvcha/events", REQUEST_SECONDS
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=patience) as reply:
                if not reply.is_success:
                    await reply.aread()
                    _value(reply)
                yield None
                async for line in reply.aiter_lines():
                    name, _, value = line.partition(": ")
                    yield msgspec.json.decode(value) if name == "data" else None
        except httpx2.HTTPError as error:
            raise _unreachable(self.server, error) from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            return await self._http.request(method, path, **options)
        except httpx2.HTTPError as error:
            raise _unreachable(self.server, error) from error

    async def _log_out(self) -> None:
        """End the session; if that fails now, the session expires."""
        try:
            await self._send("DELETE", "/session")
        except ServerUnreachable:
            return
        finally:
            self._http.headers.pop("vmware-api-session-id", None)


def _unreachable(server: str, error: BaseException) -> ServerUnreachable:
    """Return why there was no response, from the error that caused httpx2's."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        reason = str(error) or type(error).__name__
        return ServerUnreachable(f"the API at {server} does not respond: {reason}")
    why = cause.verify_message
    return ServerUntrusted(
        f"{server} presented a certificate that is not trusted ({why}); use --ca or --thumbprint"
    )


def _value(reply: httpx2.Response) -> Any:
    try:
        body = reply.json() if reply.content else None
    except ValueError:
        body = None
    if not reply.is_success:
        raise RequestRefused(reply.status_code, body)
    return body
