"""The call with which a node joins its cluster, repeated until the cluster answers it."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.client.errors import RequestRefused, ServerUnreachable, ServerUntrusted
from openvcha.node.joining import JoinRequest
from openvcha.store.http.client import HttpError, NotSentError, Patience, Reply, TlsClient

PATH: Final = "/api/openvcha/joins"
MAX_ANSWER_BYTES: Final = 1 << 20
CONNECT_SECONDS: Final = 5.0
RESPONSE_SECONDS: Final = 30.0
"""Longer than the server waits for the task."""
RETRY_SECONDS: Final = 0.5
BUSY: Final = frozenset({"RESOURCE_BUSY", "SERVICE_UNAVAILABLE"})
REFUSED: Final = frozenset({"INVALID_ARGUMENT", "NOT_ALLOWED_IN_CURRENT_STATE"})

TlsFor = Callable[[str], Awaitable[ssl.SSLContext]]
"""Returns the context that verifies the server of a URL. Raises ServerUnreachable."""


class _Answer(msgspec.Struct):
    files: dict[str, str]


@dataclass(frozen=True)
class JoinCall:
    """The call of one node: where it may be sent, and what it says.

    ``request`` is the certificate request (PEM).
    """

    servers: Sequence[str]
    tls: TlsFor
    wanted: JoinRequest
    token: Secret
    request: bytes

    def body(self) -> bytes:
        """Return the call's body, with the token in plain text."""
        return msgspec.json.encode(
            {
                "token": self.token.reveal(),
                "role": self.wanted.role.upper(),
                "name": self.wanted.name,
                "ha_address": self.wanted.ha_address,
                "certificate_request": self.request.decode(),
            }
        )


def is_refusal(error: Exception) -> bool:
    """Return whether the cluster has refused the node: the token will never be valid for it."""
    return isinstance(error, RequestRefused) and _kind(error) in REFUSED


def may_pass(error: Exception) -> bool:
    """Return whether the same call may succeed later, because nothing is decided yet."""
    if isinstance(error, ServerUnreachable):
        return not isinstance(error, ServerUntrusted)
    return isinstance(error, RequestRefused) and _kind(error) in BUSY


async def receive_files(
    call: JoinCall,
    *,
    retry: Callable[[Exception], bool] = may_pass,
    tell: Callable[[str], object] = lambda _: None,
    seconds: float | None = None,
    pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> dict[str, bytes]:
    """Join at the first server that answers, and return the node's files by relative path.

    ``tell`` receives each new reason for another attempt; after ``seconds`` there is none.
    Raises RequestRefused, ServerUnreachable: what ``retry`` does not accept, or the last failure.
    """
    clock = asyncio.get_running_loop().time
    end = None if seconds is None else clock() + seconds
    shown = ""
    for server in cycle(call.servers):
        try:
            return await _ask(call, server)
        except (RequestRefused, ServerUnreachable) as error:
            if not retry(error) or (end is not None and clock() >= end):
                raise
            if str(error) != shown:
                shown = str(error)
                tell(shown)
        await pause(RETRY_SECONDS)
    raise ValueError("there is no server to join at")


async def _ask(call: JoinCall, server: str) -> dict[str, bytes]:
    context = await call.tls(server)
    client = TlsClient(lambda: context)
    try:
        reply = await client.request(
            "POST",
            server + PATH,
            MAX_ANSWER_BYTES,
            Patience(CONNECT_SECONDS, RESPONSE_SECONDS),
            content=call.body(),
        )
    except HttpError as error:
        raise _unreachable(server, error) from error
    finally:
        await client.aclose()
    return _files(server, reply)


def _files(server: str, reply: Reply) -> dict[str, bytes]:
    if not 200 <= reply.status < 300:
        raise RequestRefused(reply.status, _decoded(reply.content))
    try:
        answer = msgspec.json.decode(reply.content, type=_Answer)
    except msgspec.DecodeError as error:
        raise ServerUnreachable(f"the API at {server} sent no files: {error}") from error
    return {path: text.encode() for path, text in answer.files.items()}


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None


def _unreachable(server: str, error: HttpError) -> ServerUnreachable:
    cause = error.__cause__
    if isinstance(error, NotSentError) and isinstance(cause, ssl.SSLCertVerificationError):
        return ServerUntrusted(
            f"{server} presented a certificate that is not trusted ({cause.verify_message})"
        )
    return ServerUnreachable(f"the API at {server} does not respond: {error}")


def _kind(error: RequestRefused) -> str:
    return str(error.body.get("error_type")) if isinstance(error.body, dict) else ""


prepare(__name__)
