"""Users: names, roles and passwords. Changes take effect at the next request."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import MappingProxyType
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.operations import Privilege
from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api_server.auth.credential_cache import CredentialCache
from openvcha.api_server.auth.names_and_roles import (
    MAX_NAME_LENGTH,
    UserRole,
    canonical,
    folded,
)
from openvcha.api_server.auth.password_queue import MAX_WAIT_SECONDS, QueueFull
from openvcha.api_server.auth.passwords import Passwords
from openvcha.api_server.auth.throttle import LoginAttempt, Throttle, invalid_credentials, now
from openvcha.store import keys
from openvcha.store.errors import Fenced, RecordForged, RecordMissing
from openvcha.store.interface import Compare, Store, unchanged
from openvcha.store.records import Record, Records
from openvcha.system.network.sources import source_of

LOCAL = "local"
BUSY_SECONDS = 1
MAX_ATTEMPTS = 32
"""Attempts of one source that run or wait at once; a name known from there has its own limit."""
_UNLIMITED: Final = contextlib.nullcontext()
MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 1024


PRIVILEGES: Mapping[UserRole, frozenset[Privilege]] = MappingProxyType(
    {
        UserRole.ADMINISTRATOR: frozenset({Privilege.SYSTEM_READ, Privilege.GLOBAL_VCSERVER}),
        UserRole.READ_ONLY: frozenset({Privilege.SYSTEM_READ}),
        UserRole.NO_ACCESS: frozenset(),
    }
)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user as stored. `generation` changes with the password, which ends older sessions."""

    name: str
    role: UserRole
    password_hash: str
    generation: str

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, role={self.role.value})"

    @property
    def privileges(self) -> frozenset[Privilege]:
        """Return the privileges of the role."""
        return PRIVILEGES[self.role]


class Users:
    """The users, kept in the store. Every method may raise StoreUnavailable.

    Names are case-insensitive, and ``DOMAIN/user`` (with a backslash) equals ``user@domain``.
    Attempts are verified one at a time for each name and source, so parallel requests get no
    more attempts than the throttle permits.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = now,
        passwords: Passwords | None = None,
        credential_cache: CredentialCache | None = None,
        token: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._store = store
        self._passwords = passwords or Passwords()
        self._credential_cache = credential_cache or CredentialCache()
        self._throttle = Throttle(clock)
        self._token = token
        self._attempts: Counter[tuple[str, str | None]] = Counter()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def add(self, name: str, password: Secret, role: UserRole) -> User:
        """Add a user. Raises ApiError INVALID_ARGUMENT or ALREADY_EXISTS."""
        user = await new_user(name, password, role, self._passwords, self._token)
        if not await self._record(user.name).create(user):
            fail(ErrorType.ALREADY_EXISTS, message("users.exists", user.name))
        return user

    async def add_prepared(self, user: User) -> bool:
        """Add a user that ``new_user`` has returned, and return whether there was none."""
        return await self._record(user.name).create(user)

    async def remove(self, name: str) -> None:
        """Remove a user, which ends the user's sessions.

        Raises ApiError NOT_FOUND; NOT_ALLOWED_IN_CURRENT_STATE for the last administrator.
        """
        while True:
            guards = await self._guards(name)
            with contextlib.suppress(Fenced):  # the administrators have changed: check again
                if not await self._record(name).delete(guards=guards):
                    fail(ErrorType.NOT_FOUND, message("users.unknown", name))
                return

    async def list(self) -> list[User]:
        """Return all users, by name."""
        return list((await self._records().all()).values())

    async def passwd(self, name: str, password: Secret) -> None:
        """Change a user's password; end the user's sessions and reset the count of wrong passwords.

        Raises ApiError INVALID_ARGUMENT or NOT_FOUND.
        """
        known, generation = await self._hash(password), self._token()
        await self._change(
            name,
            lambda user: replace(user, password_hash=known, generation=generation),
        )

    async def set_role(self, name: str, role: UserRole) -> None:
        """Change a user's role, also for existing sessions.

        Raises ApiError NOT_FOUND; NOT_ALLOWED_IN_CURRENT_STATE for the last administrator.
        """
        while True:
            guards = () if role is UserRole.ADMINISTRATOR else await self._guards(name)
            with contextlib.suppress(Fenced):
                await self._change(name, lambda user: replace(user, role=role), guards)
                return

    @staticmethod
    def key(name: str) -> str:
        """Return the key of a user in the store."""
        return keys.user(folded(name))

    async def find(self, name: str) -> User | None:
        """Return the user of this name; None if it does not exist or is forged."""
        return await self._find(folded(name))

    async def _find(self, own: str) -> User | None:
        found = await Record(self._store, keys.user(own), User).read_valid()
        return found.value if found else None

    async def verify(
        self,
        name: str,
        password: Secret,
        origin: str = LOCAL,
        lookup: AbstractAsyncContextManager[None] = _UNLIMITED,
    ) -> User:
        """Return the user with these credentials; ``origin`` is the address they come from.

        ``lookup`` is held while the user's record is read. Raises ApiError UNAUTHENTICATED, which
        does not reveal whether the user exists, and SERVICE_UNAVAILABLE if too many passwords are
        being verified.
        """
        own = folded(name)
        async with lookup:
            user = await self._find(own)
        if user is not None and self._credential_cache.knows(*_credentials(user, password)):
            return user
        source = source_of(origin)
        async with self._exclusive_attempt(source, own):
            return await self._try(source, own, user, password)

    @contextlib.asynccontextmanager
    async def _exclusive_attempt(self, source: str, folded: str) -> AsyncIterator[None]:
        """Hold the only attempt of a source for this name. Raises ApiError SERVICE_UNAVAILABLE.

        A source's attempts for names that have not logged in from there share one limit.
        """
        shared = source, folded if self._throttle.knows(source, folded) else None
        if self._attempts[shared] >= MAX_ATTEMPTS:
            raise _busy()
        self._attempts[shared] += 1
        one = self._turns.setdefault((source, folded), asyncio.Lock())
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await one.acquire()
        except TimeoutError:
            raise _busy() from None
        else:
            try:
                yield
            finally:
                one.release()
        finally:
            self._attempts[shared] -= 1
            if not self._attempts[shared]:
                del self._attempts[shared]

    async def _try(self, source: str, folded: str, user: User | None, password: Secret) -> User:
        tried = LoginAttempt(source, folded, user.generation if user else None)
        self._throttle.check(tried)
        known = user.password_hash if user else None
        first = self._throttle.knows(source, folded)
        try:
            right = await self._passwords.verify(
                known, password.reveal(), source=None if first else source
            )
        except QueueFull:
            raise _busy() from None
        if not right or user is None:
            self._throttle.failed(tried)
            raise invalid_credentials()
        self._throttle.succeeded(tried)
        self._credential_cache.remember(*_credentials(user, password))
        return user

    async def _hash(self, password: Secret) -> str:
        return await _hashed(password, self._passwords)

    async def _guards(self, name: str) -> tuple[Compare, ...]:
        """Return the conditions under which another administrator remains.

        If two administrators demote each other at the same time, one of them is refused.
        """
        own = await self._record(name).read_valid()
        if own is None:
            return ()
        if own.value.role is not UserRole.ADMINISTRATOR:
            return (unchanged(own.kv),)
        for key in await self._records().all():
            other = await self._records().record(key).read_valid()
            if other and key != own.kv.key and other.value.role is UserRole.ADMINISTRATOR:
                return unchanged(own.kv), unchanged(other.kv)
        raise ApiError(
            ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("users.last", own.value.name)
        )

    async def _change(
        self, name: str, change: Callable[[User], User], guards: Sequence[Compare] = ()
    ) -> None:
        try:
            await self._record(name).update(change, guards=guards, idempotent=True)
        except (RecordMissing, RecordForged):
            fail(ErrorType.NOT_FOUND, message("users.unknown", name))

    def _record(self, name: str) -> Record[User]:
        return Record(self._store, self.key(name), User)

    def _records(self) -> Records[User]:
        return Records(self._store, keys.USERS, User)


async def new_user(
    name: str,
    password: Secret,
    role: UserRole,
    passwords: Passwords | None = None,
    token: Callable[[], str] = lambda: secrets.token_hex(16),
) -> User:
    """Return a new user, in no store yet. Raises ApiError INVALID_ARGUMENT."""
    name = canonical(name)
    _require_name(name)
    known = await _hashed(password, passwords or Passwords())
    return User(name=name, role=role, password_hash=known, generation=token())


def decode_user(data: bytes) -> User:
    """Return the user that a file has, as msgspec encoded it. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=User)


async def _hashed(password: Secret, passwords: Passwords) -> str:
    if not MIN_PASSWORD_LENGTH <= len(password.reveal()) <= MAX_PASSWORD_LENGTH:
        limits = MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH
        fail(ErrorType.INVALID_ARGUMENT, message("users.password", *limits))
    return await passwords.hash(password.reveal())


def _busy() -> ApiError:
    text = message("users.busy")
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=BUSY_SECONDS)


def _require_name(name: str) -> None:
    printable = name.isprintable() and name == name.strip()
    if not printable or not 1 <= len(name) <= MAX_NAME_LENGTH or set(name) & {":", "/", "\\"}:
        fail(ErrorType.INVALID_ARGUMENT, message("users.name", MAX_NAME_LENGTH))


def _credentials(user: User, password: Secret) -> tuple[str, str, str]:
    return user.name, password.reveal(), user.generation


prepare(__name__)
