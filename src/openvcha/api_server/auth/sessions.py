"""Sessions: a token of 256 random bits, of which only the hash is kept, in the store."""

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
from openvcha.events.budget import MINUTE, Budget
from openvcha.store import keys
from openvcha.store.errors import LeaseNotFound, OutcomeUnknown, StoreFull
from openvcha.store.interface import KeyValue, Put, Store, unchanged
from openvcha.store.records import Record, Stored, decode, encode, readable

TOKEN_BYTES = 32
PER_USER = 32
BEGUN_A_MINUTE, ALL_BEGUN_A_MINUTE = 300, 1500
"""Each takes a kilobyte of the store until it is compacted, also when it is ended at once."""
MOST_OWNERS = 4096
"""Sessions of which it is remembered whose they are."""
_TOKEN = re.compile(r"[0-9a-f]{64}")


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session as stored; `generation` is that of the user's password at its creation."""

    user: str
    generation: str
    created: datetime
    last_accessed: datetime


@dataclass(frozen=True)
class Session:
    """A session that is alive: its `hash` names it, `user` is who it belongs to as of now."""

    hash: bytes
    user: User


class Sessions:
    """The sessions, kept in the store, where they outlive this process and its node.

    `idle` is the longest time between two requests, kept to within `idle / 60`, which is how
    rarely the time of the last access is written. `absolute` is the longest life. `per_user` is
    how many a user has at once: with one more, the one goes that was not used for the longest.
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
        per_user: int = PER_USER,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._users = users
        self._clock = clock
        self._random = random
        self._idle = idle
        self._absolute = absolute
        self._per_user = max(1, per_user)
        self._owners: dict[bytes, str] = {}
        self._begun: Budget[None] = Budget(BEGUN_A_MINUTE, ALL_BEGUN_A_MINUTE, monotonic)

    async def create(self, user: User) -> Secret:
        """Begin a session of this user and give its token.

        Raises ApiError SERVICE_UNAVAILABLE for more in a minute than the store should bear.
        """
        if not self._begun.take(user.name, None):
            wait = int(MINUTE)
            text = message("sessions.too.fast", BEGUN_A_MINUTE)
            raise ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=wait)
        token, begun = self._random(TOKEN_BYTES).hex(), self._clock()
        record = SessionRecord(
            user=user.name, generation=user.generation, created=begun, last_accessed=begun
        )
        # The lease only clears away what is over: the limits are checked at each request.
        lease = await self._store.lease_grant(int((2 * self._idle).total_seconds()) + 1)
        await self._record(token_hash(token)).create(record, lease=lease)
        await self._make_room(user.name, keys.session(token_hash(token).hex()))
        return Secret(token)

    async def resolve(self, token: Secret) -> Session:
        """Return the session of this token and note its use; raises ApiError UNAUTHENTICATED."""
        if not _TOKEN.fullmatch(token.reveal()):
            raise unauthenticated()
        digest = token_hash(token.reveal())
        found, user = await self._with_user(digest)
        if found is None or self._over(found.value):
            raise unauthenticated()
        if user is None or user.generation != found.value.generation:
            raise unauthenticated()
        await self._touch(found)
        return Session(digest, user)

    async def get(self, digest: bytes) -> SessionInfo:
        """Describe the session of this hash; raises ApiError UNAUTHENTICATED when it is over."""
        found = await self._record(digest).sound()
        if found is None:
            raise unauthenticated()
        record = found.value
        return SessionInfo(
            user=record.user,
            created_time=record.created,
            last_accessed_time=self._clock(),
        )

    async def delete(self, digest: bytes) -> None:
        """End the session of this hash; raises ApiError UNAUTHENTICATED when it is over."""
        found = await self._record(digest).sound()
        if found is None:
            raise unauthenticated()
        await self._end(found.kv)

    async def _with_user(self, digest: bytes) -> tuple[Stored[SessionRecord] | None, User | None]:
        """Read a session and its user, in one read once it is known whose session it is.

        Only the name is remembered: what session and user are worth is read anew each time.
        """
        known = self._owners.get(digest)
        if known is None:
            found = await self._record(digest).sound()
            user = None
        else:
            names = [keys.session(digest.hex()), self._users.key(known)]
            found, user = _decoded(*await self._store.several(names))
        if found is None:
            self._owners.pop(digest, None)
        elif found.value.user != known:
            user = await self._users.find(found.value.user)
            self._note_owner(digest, found.value.user)
        return found, user

    def _note_owner(self, digest: bytes, user: str) -> None:
        self._owners[digest] = user
        if len(self._owners) > MOST_OWNERS:
            del self._owners[next(iter(self._owners))]

    async def _make_room(self, user: str, newest: str) -> None:
        """End a user's sessions that are too many, those first that were used the longest ago."""
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

    def _over(self, record: SessionRecord) -> bool:
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
            raise unauthenticated() from None  # it was ended in between
        except (OutcomeUnknown, StoreFull):
            return  # at worst the use is not noted

    def _record(self, digest: bytes) -> Record[SessionRecord]:
        return Record(self._store, keys.session(digest.hex()), SessionRecord)


def _decoded(
    session: KeyValue | None, user: KeyValue | None
) -> tuple[Stored[SessionRecord] | None, User | None]:
    found = None if session is None else Stored(decode(session, SessionRecord), session)
    return found, None if user is None else decode(user, User)


def token_hash(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def unauthenticated() -> ApiError:
    """Make the UNAUTHENTICATED of a request without credentials or with a session that is over."""
    cause = message("com.vmware.vapi.endpoint.method.authentication.required")
    return ApiError(ErrorType.UNAUTHENTICATED, cause, challenge=CHALLENGE)


prepare(__name__)
