"""Who is calling: credentials as they came, and what they are worth."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from openvcha.api.operations import Operation
from openvcha.api.secret import Secret
from openvcha.api_server.auth.sessions import Sessions, unauthenticated
from openvcha.api_server.auth.users import User, Users
from openvcha.operations.caller import Caller

SESSION_SERVICE = "com.vmware.cis.session"
SESSION_HEADER = "vmware-api-session-id"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class Credentials:
    """What a request brought: a session's token, a user name with its password, both or none."""

    token: Secret | None = None
    user: str | None = None
    password: Secret | None = None

    def secrets(self) -> Iterator[Secret]:
        """Return what must not be shown."""
        yield from (secret for secret in (self.token, self.password) if secret is not None)


@dataclass(frozen=True)
class Visitor:
    """A caller together with the user behind it."""

    caller: Caller
    user: User | None
    """None for whoever needs none (operations that are not ``authenticated``)."""


class Gate:
    """Turns credentials into a caller."""

    def __init__(self, users: Users, sessions: Sessions) -> None:
        self._users = users
        self._sessions = sessions

    async def admit(self, operation: Operation, given: Credentials, origin: str) -> Visitor:
        """Authenticate a call; raises ApiError UNAUTHENTICATED.

        A session goes before a password, except for logging in, which is what passwords are for.
        """
        if not operation.authenticated:
            return Visitor(Caller(ANONYMOUS, frozenset(), None, origin), None)
        if given.token is not None and not logs_in(operation):
            session = await self._sessions.resolve(given.token)
            return _visitor(session.user, session.hash, origin)
        if given.user is None or given.password is None:
            raise unauthenticated()
        user = await self._users.verify(given.user, given.password, origin)
        return _visitor(user, None, origin)


def logs_in(operation: Operation) -> bool:
    """Return whether it begins a session."""
    return operation.service == SESSION_SERVICE and operation.name == "create"


def from_headers(headers: Mapping[str, str]) -> Credentials:
    """Read the credentials of a request's headers; what is malformed counts as not given.

    A session's cookie counts last: clients send it without being told to.
    """
    token = headers.get(SESSION_HEADER)
    user, password = _basic(headers.get("authorization", ""))
    if not token and user is None and not _of_another_site(headers):
        token = _cookie(headers.get("cookie", ""))
    return Credentials(Secret(token) if token else None, user, password)


def _cookie(header: str) -> str | None:
    """Read the session's token, which some clients put into quotation marks."""
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION_HEADER and value:
            return value.strip('"')
    return None


def _of_another_site(headers: Mapping[str, str]) -> bool:
    """Return whether a browser says that another site's page makes it send this request."""
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
        return data.decode("latin-1")  # what older clients send


def _visitor(user: User, session: bytes | None, origin: str) -> Visitor:
    return Visitor(Caller(user.name, user.privileges, session, origin), user)
