"""One request to whichever endpoint answers: who is tried next, and what a failure means."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from openvcha.store.account import Account, AccountSource, Pass
from openvcha.store.errors import (
    ClusterUnhealthy,
    NotLetIn,
    NotProtected,
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
class Question(Generic[T]):
    """What is asked, and how an answer is read: one of another form is no answer."""

    path: str
    body: Json
    read: Callable[[Json], T]


CONNECT_SECONDS = 1.0
READ_SECONDS = 2.0
"""An endpoint that is silent this long is left for the next one, where asking twice is harmless."""
AUTHENTICATE = "/v3/auth/authenticate"
QUORUM_READ = Question("/v3/kv/range", {"key": wire.text("/"), "count_only": True}, wire.nothing)
QUORUM = frozenset({"/v3/kv/range", "/v3/kv/txn"})
"""No read here is one that a member answers by itself."""
MOST_KNOWN = 64
"""Endpoints of which it is remembered when they were in touch with a majority."""
MOST_BYTES = 32 << 20
"""Of an answer, or a line of a watch. All that we keep in the store is far less, as base64 too."""
MOST_PAGE = 1 << 16
"""Bytes that a page may have which is asked for without an account: it may be a stranger's."""
MOST_IDLE = 16
"""Connections that a client keeps open for its next requests, with all endpoints together."""
GRACE_SECONDS = 0.2
"""The client's own limits, one a phase, come first: they say what was waited for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
OK = 200
# A context that cannot be made is an OSError.
_FAILED = (HttpError, OSError)


class Gateway:
    """The endpoints (URLs) of etcd's JSON gateway, and the connections to them.

    Only they are shown the account, or the token that it is good for. Other places may be asked
    what etcd tells everybody who has a certificate.
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
        self._pass = Pass(account)
        self.timeout = timeout
        self._http = TlsClient(tls or _no_tls, MOST_IDLE)
        self._in_touch: dict[str, float] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the endpoints, the one to be tried first in front."""
        return self._endpoints

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use other endpoints; the current one stays in front when it is among them."""
        wanted = _checked(endpoints, self._tls)
        current = self._endpoints[0]
        self._endpoints = tuple(sorted(wanted, key=lambda endpoint: endpoint != current))

    def leave(self, endpoint: str) -> None:
        """Put an endpoint that failed behind the others."""
        if self._endpoints[0] == endpoint:
            self._endpoints = (*self._endpoints[1:], endpoint)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def read(self, question: Question[T], *, fresh: bool = False) -> T:
        """Ask something that may be asked twice, until the deadline. Raises StoreUnavailable.

        ``fresh`` first lets the endpoint catch up with the quorum, where it would answer from
        what it remembers.
        """

        if fresh:
            return (await self.read_both(QUORUM_READ, question))[1]

        async def ask(endpoint: str, deadline: float) -> T:
            return await self._attempt(endpoint, question, deadline, self._share)

        return await self._until_deadline(ask)

    async def read_both(self, first: Question[T], second: Question[U]) -> tuple[T, U]:
        """Ask one endpoint both, in this order, as ``read`` does.

        What it remembers is at least as new as a ``first`` that it answers with the quorum.
        """

        async def ask(endpoint: str, deadline: float) -> tuple[T, U]:
            found = await self._attempt(endpoint, first, deadline, self._share)
            return found, await self._attempt(endpoint, second, deadline, self._share)

        return await self._until_deadline(ask)

    @property
    def _share(self) -> float:
        """Return the seconds that one endpoint has for an answer."""
        return min(READ_SECONDS, self.timeout / len(self._endpoints))

    async def write(self, question: Question[T]) -> T:
        """Ask something that must not be done twice. Raises also OutcomeUnknown."""

        async def ask(endpoint: str, deadline: float) -> T:
            return await self._attempt(endpoint, question, deadline, None)

        return await self._until_deadline(ask)

    async def at(self, endpoint: str, question: Question[T], seconds: float) -> T:
        """Ask this endpoint, once, within so many seconds. Raises StoreUnavailable."""
        deadline = asyncio.get_running_loop().time() + seconds
        return await self._attempt(endpoint, question, deadline, seconds)

    async def page(self, place: str, path: str, seconds: float) -> bytes:
        """Get a page of a place (URL), to which nothing is shown but the certificate.

        Raises StoreUnavailable, also for one of more than 64 KiB.
        """
        patience = Patience(min(seconds, CONNECT_SECONDS), seconds)
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                reply = await self._http.ask("GET", place + path, MOST_PAGE, patience)
        except _FAILED as error:
            raise StoreUnavailable(_reason(place, error)) from error
        return reply.content

    def in_touch(self, endpoint: str, since: float) -> bool:
        """Return whether an endpoint has answered, with a quorum, what was asked since then."""
        return self._in_touch.get(endpoint, -math.inf) >= since

    @property
    def token(self) -> str:
        """Return the token that requests carry now."""
        return self._pass.token

    async def let_in(self, endpoint: str, void: str, seconds: float = READ_SECONDS) -> bool:
        """Show the account to an endpoint that does not take the token ``void``.

        False when there is no account, or the place is none of the endpoints. Raises
        StoreUnavailable, of which NotLetIn is one.
        """
        if endpoint not in self._endpoints:
            return False
        deadline = asyncio.get_running_loop().time() + seconds

        async def show(account: Account) -> str:
            shown = {"name": account.name, "password": account.password.reveal()}
            try:
                question = Question(AUTHENTICATE, shown, wire.token)
                return await self._request(endpoint, question, deadline, seconds)
            except NotProtected:
                return ""  # it is behind the others, or nobody has to show anything yet

        return await self._pass.renew(void, show)

    @asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Json
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer without end: its lines. Raises StoreUnavailable, also while reading."""
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
                    raise _refusal(answer.status, await read_whole(answer.pieces, MOST_BYTES))
                yield read_lines(answer.pieces, MOST_BYTES)
        except _FAILED as error:
            raise StoreUnavailable(_reason(endpoint, error)) from error

    def _shown(self, endpoint: str) -> dict[str, str]:
        """Return what a request carries: the token goes to the endpoints, and to nobody else."""
        return self._pass.headers if endpoint in self._endpoints else {}

    async def _until_deadline(self, ask: Callable[[str, float], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        # An attempt that cannot wait for its answer would only make an outcome unknown.
        last_start = deadline - min(LONGEST_PAUSE, self.timeout / 4)
        pause = FIRST_PAUSE
        refusals: dict[str, StoreUnavailable] = {}
        while not refusals or clock() < last_start:
            for endpoint in self._endpoints:
                if refusals and clock() >= last_start:
                    break
                try:
                    return await ask(endpoint, deadline)
                except StoreFull:
                    raise  # so say all of them
                except OutcomeUnknown:
                    self.leave(endpoint)
                    raise
                except StoreUnavailable as error:
                    self.leave(endpoint)
                    refusals[endpoint] = error
            await asyncio.sleep(min(pause, max(0.0, last_start - clock())))
            pause = min(pause * 2, LONGEST_PAUSE)
        raise type(next(iter(refusals.values())))("; ".join(map(str, refusals.values())))

    async def _attempt(
        self, endpoint: str, question: Question[T], deadline: float, share: float | None
    ) -> T:
        """Ask once, and once more after having shown the account, where that was the hindrance.

        Who is not let in is refused before anything is done: so also a write is asked again.
        """
        void = self._pass.token
        try:
            return await self._request(endpoint, question, deadline, share)
        except NotLetIn:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self.let_in(endpoint, void, min(left, READ_SECONDS)):
                raise
        return await self._request(endpoint, question, deadline, share)

    async def _request(
        self, endpoint: str, question: Question[T], deadline: float, share: float | None
    ) -> T:
        """Ask once. ``share``: seconds to wait for what may be asked again; None for a write."""
        began = asyncio.get_running_loop().time()
        left = deadline - began
        unsure = OutcomeUnknown if share is None else StoreUnavailable
        seconds = left if share is None else min(left, share)
        try:
            async with asyncio.timeout_at(deadline + GRACE_SECONDS):
                reply = await self._http.ask(
                    "POST",
                    endpoint + question.path,
                    MOST_BYTES,
                    Patience(min(left, CONNECT_SECONDS), seconds),
                    content=msgspec.json.encode(question.body),
                    headers=self._shown(endpoint) if question.path != AUTHENTICATE else {},
                )
        except NotSentError as error:
            raise StoreUnavailable(_reason(endpoint, error)) from error
        except _FAILED as error:
            raise unsure(_reason(endpoint, error)) from error
        found = _answer(endpoint, reply, question.read, unsure)
        if question.path in QUORUM:
            self._in_touch[endpoint] = began
            if len(self._in_touch) > MOST_KNOWN:
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
    known = (ClusterUnhealthy, NotLetIn, StoreFull)
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
