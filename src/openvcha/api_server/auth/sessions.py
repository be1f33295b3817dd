"""Sessions: a token of 256 random bits, of which the store keeps only the hash."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api.structures import SessionInfo
from openvcha.api_server.auth.throttle import CHALLENGE, now
from openvcha.api_server.auth.users import User, Users
from openvcha.events.budget import MINUTE, RateLimit
from openvcha.store import keys
from openvcha.store.errors import LeaseNotFound, OutcomeUnknown, StoreFull
from openvcha.store.interface import KeyValue, Put, Store, unchanged
from openvcha.store.records import Record, Stored, decode, encode, readable

TOKEN_BYTES = 32
MAX_PER_USER = 32
MAX_CREATED_PER_MINUTE, MAX_CREATED_PER_MINUTE_TOTAL = 300, 1500
"""Each session takes a kilobyte of the store until compaction, even if it is deleted at once."""
MAX_OWNERS = 4096
"""Sessions whose user is cached."""
_TOKEN = re.compile(r"[0-9a-f]{64}")


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session as stored; `generation` is that of the user's password at its creation."""

    user: str
    generation: str
    created: datetime
    last_accessed: datetime


@dataclass(frozen=True)
class Session:
    """A valid session: its `hash` identifies it; `user` is its owner as currently stored."""

    hash: bytes
    user: User


class Sessions:
    """The sessions, kept in the store, where they survive this process and its node.

    `idle` is the longest time between two requests, with a precision of `idle / 60`: the last
    access is written no more often. `absolute` is the longest lifetime. `per_user` is how many a
    user may have at once: one more ends the least recently used. `workers` processes share the
    number of new sessions per minute.
    Every method may raise StoreUnavailable.
    """

    def __init__(
        self,
        store: Store,
        users: Users,
        *,
        clock: Callable[[], datetime] = now,
        random: Callable[[int], bytes] = secrets.token_bytes,
        idle: timedelta = timedelta(minutes=30),
        absolute: timedelta = timedelta(hours=24),
        per_user: int = MAX_PER_USER,
        monotonic: Callable[[], float] = time.monotonic,
        workers: int = 1,
    ) -> None:
        self._store = store
        self._users = users
        self._clock = clock
        self._random = random
        self._idle = idle
        self._absolute = absolute
        self._per_user = max(1, per_user)
        self._owners: dict[bytes, str] = {}
        self._created: RateLimit[None] = RateLimit(
            MAX_CREATED_PER_MINUTE, -(-MAX_CREATED_PER_MINUTE_TOTAL // workers), monotonic
        )

    async def create(self, user: User) -> Secret:
        """Create a session for this user and return its token.

        Raises ApiError SERVICE_UNAVAILABLE above the number per minute that the store can bear.
        """
        if not self._created.take(user.name, None):
            wait = int(MINUTE)
            text = message("sessions.too.fast", MAX_CREATED_PER_MINUTE)
            raise ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=wait)
        token, begun = self._random(TOKEN_BYTES).hex(), self._clock()
        record = SessionRecord(
            user=user.name, generation=user.generation, created=begun, last_accessed=begun
        )
        # The lease only cleans up: the limits are checked at each request.
        lease = await self._store.lease_grant(int((2 * self._idle).total_seconds()) + 1)
        await self._record(token_hash(token)).create(record, lease=lease)
        await self._end_surplus(user.name, keys.session(token_hash(token).hex()))
        return Secret(token)

    async def resolve(self, token: Secret) -> Session:
        """Return the session of this token and record its use. Raises ApiError UNAUTHENTICATED."""
        if not _TOKEN.fullmatch(token.reveal()):
            raise unauthenticated()
        digest = token_hash(token.reveal())
        found, user = await self._with_user(digest)
        if found is None or self._is_over(found.value):
            raise unauthenticated()
        if user is None or user.generation != found.value.generation:
            raise unauthenticated()
        await self._touch(found)
        return Session(digest, user)

    async def get(self, digest: bytes) -> SessionInfo:
        """Return the session of this hash. Raises ApiError UNAUTHENTICATED if it has ended."""
        found = await self._record(digest).read_valid()
        if found is None:
            raise unauthenticated()
        record = found.value
        return SessionInfo(
            user=record.user,
            created_time=record.created,
            last_accessed_time=self._clock(),
        )

    async def delete(self, digest: bytes) -> None:
        """Delete the session of this hash. Raises ApiError UNAUTHENTICATED if it has ended."""
        found = await self._record(digest).read_valid()
        if found is None:
            raise unauthenticated()
        await self._end(found.kv)

    async def _with_user(self, digest: bytes) -> tuple[Stored[SessionRecord] | None, User | None]:
        """Read a session and its user, in a single read once the owner is known.

        Only the owner's name is cached: session and user are read each time.
        """
        known = self._owners.get(digest)
        if known is None:
            found = await self._record(digest).read_valid()
            user = None
        else:
            names = [keys.session(digest.hex()), self._users.key(known)]
            found, user = _decoded(*await self._store.get_many(names))
        if found is None:
            self._owners.pop(digest, None)
        elif found.value.user != known:
            user = await self._users.find(found.value.user)
            self._note_owner(digest, found.value.user)
        return found, user

    def _note_owner(self, digest: bytes, user: str) -> None:
        self._owners[digest] = user
        if len(self._owners) > MAX_OWNERS:
            del self._owners[next(iter(self._owners))]

    async def _end_surplus(self, user: str, newest: str) -> None:
        """Delete a user's surplus sessions, the least recently used first."""
        found = readable(await self._store.prefix(keys.SESSIONS), SessionRecord)
        others = [(kv, record) for kv, record in found if kv.key != newest and record.user == user]
        others.sort(key=lambda each: each[1].last_accessed)
        for kv, _ in others[: max(0, len(others) + 1 - self._per_user)]:
            await self._end(kv)

    async def _end(self, kv: KeyValue) -> None:
        try:
            await self._store.lease_revoke(kv.lease)
        except LeaseNotFound:
            await self._store.delete(kv.key)

    def _is_over(self, record: SessionRecord) -> bool:
        current = self._clock()
        return (
            current - record.last_accessed > self._idle or current - record.created > self._absolute
        )

    async def _touch(self, found: Stored[SessionRecord]) -> None:
        used = self._clock()
        if used - found.value.last_accessed < self._idle / 60:
            return
        value = encode(msgspec.structs.replace(found.value, last_accessed=used))
        kv = found.kv
        try:
            await self._store.txn([unchanged(kv)], [Put(kv.key, value, kv.lease)])
            await self._store.lease_keep_alive(kv.lease)
        except LeaseNotFound:
            raise unauthenticated() from None  # deleted in the meantime
        except (OutcomeUnknown, StoreFull):
            return  # at worst, the access is not recorded

    def _record(self, digest: bytes) -> Record[SessionRecord]:
        return Record(self._store, keys.session(digest.hex()), SessionRecord)


def _decoded(
    session: KeyValue | None, user: KeyValue | None
) -> tuple[Stored[SessionRecord] | None, User | None]:
    found = None if session is None else Stored(decode(session, SessionRecord), session)
    return found, None if user is None else decode(user, User)


def token_hash(token: str) -> bytes:
    """Return the hash of a token; the store has its session under it."""
    return hashlib.sha256(token.encode()).digest()


def unauthenticated() -> ApiError:
    """Return UNAUTHENTICATED, for a request without credentials or with an expired session."""
    cause = message("com.vmware.vapi.endpoint.method.authentication.required")
    return ApiError(ErrorType.UNAUTHENTICATED, cause, challenge=CHALLENGE)


prepare(__name__)
