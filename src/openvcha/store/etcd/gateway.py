"""Requests to the first endpoint that responds: the order of endpoints, and how failures count."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from openvcha.store.account import Account, AccountSource, AuthToken
from openvcha.store.errors import (
    AuthDisabled,
    AuthenticationFailed,
    ClusterUnhealthy,
    OutcomeUnknown,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from openvcha.store.etcd import wire
from openvcha.store.etcd.reply_forms import Json, Malformed
from openvcha.store.http.client import (
    HttpError,
    NotSentError,
    Patience,
    Reply,
    TlsClient,
    TlsSource,
    read_lines,
    read_whole,
)

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class GatewayRequest(Generic[T]):
    """A request to the gateway, and the parser of its response."""

    path: str
    body: Json
    parse: Callable[[Json], T]


CONNECT_SECONDS = 1.0
READ_SECONDS = 2.0
"""After this time an idempotent request goes to the next endpoint."""
AUTHENTICATE = "/v3/auth/authenticate"
QUORUM_READ = GatewayRequest(
    "/v3/kv/range", {"key": wire.text("/"), "count_only": True}, wire.nothing
)
QUORUM = frozenset({"/v3/kv/range", "/v3/kv/txn"})
"""All reads here are linearizable: a member cannot serve them alone."""
MAX_KNOWN = 64
"""Endpoints whose last quorum response is remembered."""
MAX_BYTES = 32 << 20
"""Limit of a response, or of a line of a watch. All our data is far smaller, even in base64."""
MAX_PAGE_BYTES = 1 << 16
"""Limit of a page from a server that may be a stranger's: it receives no account."""
MAX_IDLE = 16
"""Connections that a client keeps open, over all endpoints."""
GRACE_SECONDS = 0.2
"""The client's own timeouts, one per phase, fire first: they name the phase."""
INITIAL_PAUSE, MAX_PAUSE = 0.05, 0.5
OK = 200
# A TLS context that cannot be created raises OSError.
_FAILED = (HttpError, OSError)


class Gateway:
    """The endpoints (URLs) of etcd's JSON gateway, and the connections to them.

    Only the endpoints receive the account and its token. Other servers can be asked only for what
    etcd returns to any client with a certificate.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TlsSource | None,
        timeout: float,
        account: AccountSource = lambda: None,
    ) -> None:
        self._endpoints = _checked(endpoints, tls)
        self._tls = tls
        self._pass = AuthToken(account)
        self.timeout = timeout
        self._http = TlsClient(tls or _no_tls, MAX_IDLE)
        self._in_touch: dict[str, float] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the endpoints, the next one to try first."""
        return self._endpoints

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use other endpoints; the current one stays first if it is among them."""
        wanted = _checked(endpoints, self._tls)
        current = self._endpoints[0]
        self._endpoints = tuple(sorted(wanted, key=lambda endpoint: endpoint != current))

    def prefer(self, endpoint: str) -> None:
        """Move an endpoint before the others, if it is one of them."""
        if endpoint in self._endpoints:
            others = (other for other in self._endpoints if other != endpoint)
            self._endpoints = (endpoint, *others)

    def demote(self, endpoint: str) -> None:
        """Move an endpoint that failed behind the others."""
        if self._endpoints[0] == endpoint:
            self._endpoints = (*self._endpoints[1:], endpoint)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def read(self, request: GatewayRequest[T], *, fresh: bool = False) -> T:
        """Send an idempotent request, and retry until the deadline. Raises StoreUnavailable.

        ``fresh`` first makes the endpoint catch up with the quorum, for a request that it serves
        from memory.
        """
        if fresh:
            return (await self.read_both(QUORUM_READ, request))[1]

        async def ask(endpoint: str, deadline: float) -> T:
            return await self._attempt(endpoint, request, deadline, self._share)

        return await self._until_deadline(ask)

    async def read_both(self, first: GatewayRequest[T], second: GatewayRequest[U]) -> tuple[T, U]:
        """Send both requests to one endpoint, in this order, as ``read`` does.

        If ``first`` is a quorum read, the endpoint's memory is at least as new for ``second``.
        """

        async def ask(endpoint: str, deadline: float) -> tuple[T, U]:
            found = await self._attempt(endpoint, first, deadline, self._share)
            return found, await self._attempt(endpoint, second, deadline, self._share)

        return await self._until_deadline(ask)

    @property
    def _share(self) -> float:
        """Return the seconds that one endpoint gets to respond."""
        return min(READ_SECONDS, self.timeout / len(self._endpoints))

    async def write(self, request: GatewayRequest[T]) -> T:
        """Send a request that must not be repeated. Raises OutcomeUnknown as well."""

        async def ask(endpoint: str, deadline: float) -> T:
            return await self._attempt(endpoint, request, deadline, None)

        return await self._until_deadline(ask)

    async def request_from(self, endpoint: str, request: GatewayRequest[T], seconds: float) -> T:
        """Send a request once, to this endpoint. Raises StoreUnavailable."""
        deadline = asyncio.get_running_loop().time() + seconds
        return await self._attempt(endpoint, request, deadline, seconds)

    async def get_page(self, place: str, path: str, seconds: float) -> bytes:
        """GET a page from any server (URL), which receives only the certificate.

        Raises StoreUnavailable, also if the page exceeds 64 KiB.
        """
        timeouts = Patience(min(seconds, CONNECT_SECONDS), seconds)
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                reply = await self._http.request("GET", place + path, MAX_PAGE_BYTES, timeouts)
        except _FAILED as error:
            raise StoreUnavailable(_reason(place, error)) from error
        return reply.content

    def had_quorum_since(self, endpoint: str, since: float) -> bool:
        """Return whether an endpoint responded to a request sent after ``since`` with a quorum."""
        return self._in_touch.get(endpoint, -math.inf) >= since

    @property
    def token(self) -> str:
        """Return the token that requests currently carry."""
        return self._pass.token

    async def authenticate(self, endpoint: str, void: str, seconds: float = READ_SECONDS) -> bool:
        """Authenticate with an endpoint that rejects the token ``void``.

        Return False without an account, or if the server is not one of the endpoints. Raises
        StoreUnavailable (AuthenticationFailed is a subclass).
        """
        if endpoint not in self._endpoints:
            return False
        deadline = asyncio.get_running_loop().time() + seconds

        async def show(account: Account) -> str:
            shown = {"name": account.name, "password": account.password.reveal()}
            try:
                request = GatewayRequest(AUTHENTICATE, shown, wire.token)
                return await self._request(endpoint, request, deadline, seconds)
            except AuthDisabled:
                return ""  # it lags behind, or auth is not enabled yet

        return await self._pass.renew(void, show)

    @asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Json
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an endless response; yield its lines. Raises StoreUnavailable, also later."""
        stream = self._http.stream(
            "POST",
            endpoint + path,
            Patience(CONNECT_SECONDS, READ_SECONDS),
            content=msgspec.json.encode(body),
            headers=self._shown(endpoint),
        )
        try:
            async with stream as answer:
                if answer.status != OK:
                    raise _refusal(answer.status, await read_whole(answer.pieces, MAX_BYTES))
                yield read_lines(answer.pieces, MAX_BYTES)
        except _FAILED as error:
            raise StoreUnavailable(_reason(endpoint, error)) from error

    def _shown(self, endpoint: str) -> dict[str, str]:
        """Return the authentication headers; only the endpoints receive the token."""
        return self._pass.headers if endpoint in self._endpoints else {}

    async def _until_deadline(self, ask: Callable[[str, float], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        # A later attempt could not wait for its response and would only leave an unknown outcome.
        last_start = deadline - min(MAX_PAUSE, self.timeout / 4)
        pause = INITIAL_PAUSE
        refusals: dict[str, StoreUnavailable] = {}
        while not refusals or clock() < last_start:
            for endpoint in self._endpoints:
                if refusals and clock() >= last_start:
                    break
                try:
                    return await ask(endpoint, deadline)
                except StoreFull:
                    raise  # every endpoint would say so
                except OutcomeUnknown:
                    self.demote(endpoint)
                    raise
                except StoreUnavailable as error:
                    self.demote(endpoint)
                    refusals[endpoint] = error
            await asyncio.sleep(min(pause, max(0.0, last_start - clock())))
            pause = min(pause * 2, MAX_PAUSE)
        raise type(next(iter(refusals.values())))("; ".join(map(str, refusals.values())))

    async def _attempt(
        self, endpoint: str, request: GatewayRequest[T], deadline: float, share: float | None
    ) -> T:
        """Send a request; if it was refused as unauthenticated, authenticate and send it once more.

        Such a refusal comes before any effect, so a write is repeated, too.
        """
        void = self._pass.token
        try:
            return await self._request(endpoint, request, deadline, share)
        except AuthenticationFailed:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self.authenticate(endpoint, void, min(left, READ_SECONDS)):
                raise
        return await self._request(endpoint, request, deadline, share)

    async def _request(
        self, endpoint: str, request: GatewayRequest[T], deadline: float, share: float | None
    ) -> T:
        """Send a request once. ``share``: seconds for an idempotent one; None for a write."""
        began = asyncio.get_running_loop().time()
        left = deadline - began
        unsure = OutcomeUnknown if share is None else StoreUnavailable
        seconds = left if share is None else min(left, share)
        try:
            async with asyncio.timeout_at(deadline + GRACE_SECONDS):
                reply = await self._http.request(
                    "POST",
                    endpoint + request.path,
                    MAX_BYTES,
                    Patience(min(left, CONNECT_SECONDS), seconds),
                    content=msgspec.json.encode(request.body),
                    headers=self._shown(endpoint) if request.path != AUTHENTICATE else {},
                )
        except NotSentError as error:
            raise StoreUnavailable(_reason(endpoint, error)) from error
        except _FAILED as error:
            raise unsure(_reason(endpoint, error)) from error
        found = _answer(endpoint, reply, request.parse, unsure)
        if request.path in QUORUM:
            self._in_touch[endpoint] = began
            if len(self._in_touch) > MAX_KNOWN:
                del self._in_touch[next(iter(self._in_touch))]
        return found


def _answer(
    endpoint: str, reply: Reply, read: Callable[[Json], T], unsure: type[StoreUnavailable]
) -> T:
    if reply.status == OK:
        try:
            return read(msgspec.json.decode(reply.content, type=dict[str, Any]))
        except (msgspec.MsgspecError, RecursionError, Malformed) as error:
            reason = f": {error}" if isinstance(error, Malformed) else ""
            raise unsure(f"{endpoint}: its response cannot be read{reason}") from error
    refusal = _refusal(reply.status, reply.content)
    where = f"{endpoint}: {refusal}"
    if wire.not_done(refusal) or isinstance(refusal, ClusterUnhealthy | StoreFull):
        raise _sure(refusal)(where, refusal.code)
    if isinstance(refusal, StoreUnavailable):
        raise unsure(where, refusal.code)
    raise refusal


def _sure(refusal: StoreError) -> type[StoreUnavailable]:
    known = (ClusterUnhealthy, AuthenticationFailed, StoreFull)
    return next((kind for kind in known if isinstance(refusal, kind)), StoreUnavailable)


def _refusal(status: int, content: bytes) -> StoreError:
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        fields = {"message": content[:200].decode(errors="replace")}
    return wire.error(status, fields if isinstance(fields, dict) else {})


def _no_tls() -> ssl.SSLContext:
    raise ValueError("an https endpoint needs a TLS context")


def _reason(endpoint: str, error: Exception) -> str:
    return f"{endpoint}: {type(error).__name__} {error}".rstrip()


def _checked(endpoints: Sequence[str], tls: TlsSource | None) -> tuple[str, ...]:
    if not endpoints:
        raise ValueError("no store endpoint is known")
    if tls is None and any(endpoint.startswith("https:") for endpoint in endpoints):
        raise ValueError("an https endpoint needs a TLS context")
    return tuple(endpoint.rstrip("/") for endpoint in endpoints)
