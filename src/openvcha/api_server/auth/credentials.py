"""Credentials of a request, and their authentication."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from openvcha.api.operations import Operation, SessionAction
from openvcha.api.secret import Secret
from openvcha.api_server.auth.sessions import Sessions, unauthenticated
from openvcha.api_server.auth.users import User, Users
from openvcha.operations.caller import Caller

SESSION_HEADER = "vmware-api-session-id"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Credentials:
    """The credentials in a request: a session token, a user name with password, both or neither."""

    token: Secret | None = None
    user: str | None = None
    password: Secret | None = None

    def secrets(self) -> Iterator[Secret]:
        """Yield the secrets, for redaction."""
        yield from (secret for secret in (self.token, self.password) if secret is not None)


@dataclass(frozen=True)
class Principal:
    """An authenticated caller with its user."""

    caller: Caller
    user: User | None
    """None for operations that are not ``authenticated``."""


class Authenticator:
    """An authenticator that turns credentials into a principal."""

    def __init__(self, users: Users, sessions: Sessions) -> None:
        self._users = users
        self._sessions = sessions

    async def authenticate(
        self,
        operation: Operation,
        given: Credentials,
        origin: str,
        lookup: AbstractAsyncContextManager[None],
    ) -> Principal:
        """Return the caller; ``lookup`` is held while the store is read.

        A session takes precedence over a password, except for the login itself. Raises ApiError
        UNAUTHENTICATED, and SERVICE_UNAVAILABLE if too many are being verified.
        """
        if not operation.authenticated:
            return Principal(Caller(ANONYMOUS, frozenset(), None, origin), None)
        if given.token is not None and operation.session is not SessionAction.LOG_IN:
            async with lookup:
                session = await self._sessions.resolve(given.token)
            return _principal(session.user, session.hash, origin)
        if given.user is None or given.password is None:
            raise unauthenticated()
        user = await self._users.verify(given.user, given.password, origin, lookup)
        return _principal(user, None, origin)


def from_headers(headers: Mapping[str, str]) -> Credentials:
    """Return the credentials in a request's headers; malformed ones count as absent.

    A session cookie has the lowest precedence, since browsers send it unasked.
    """
    token = headers.get(SESSION_HEADER)
    user, password = _basic(headers.get("authorization", ""))
    if not token and user is None and not _is_cross_site(headers):
        token = _cookie(headers.get("cookie", ""))
    return Credentials(Secret(token) if token else None, user, password)


def _cookie(header: str) -> str | None:
    """Return the session's token, which some clients put in quotes."""
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION_HEADER and value:
            return value.strip('"')
    return None


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Return whether, according to the browser, a page of another site made the request."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    own = f"https://{headers.get('host', '')}"
    return site not in {"none", "same-origin"} or (origin is not None and origin != own)


def _basic(header: str) -> tuple[str | None, Secret | None]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        user, colon, password = _text(base64.b64decode(encoded.strip(), validate=True)).partition(
            ":"
        )
    except (binascii.Error, ValueError):
        return None, None
    return (user, Secret(password)) if colon else (None, None)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")  # as older clients send it


def _principal(user: User, session: bytes | None, origin: str) -> Principal:
    return Principal(Caller(user.name, user.privileges, session, origin, user.generation), user)
