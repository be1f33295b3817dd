"""Delays of logins after consecutive wrong passwords, by source and user name.

So an attacker cannot lock a user out from another source. All state is in this process's memory,
and bounded; failures write nothing to the store, so a failover resets the counts.
"""

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message

FREE_ATTEMPTS: Final = 5
FIRST_DELAY: Final = timedelta(seconds=5)
MAX_DELAY: Final = timedelta(minutes=5)
FORGOTTEN_AFTER: Final = timedelta(hours=1)
MAX_SOURCES: Final = 512
NAME_BUCKETS_PER_SOURCE: Final = 32
"""Counters shared by all names that a source tries: more names do not allow more attempts."""
MAX_KNOWN_SOURCES: Final = 1024
MAX_KNOWN_SOURCES_PER_USER: Final = 16
NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NAME_BYTES: Final = 16
CHALLENGE: Final = 'Basic realm="openvcha"'


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Failures:
    """Consecutive wrong passwords: how many, when the last, and for which credentials."""

    count: int = 0
    last: datetime = NEVER
    tried: bytes = b""
    mixed: bool = False
    """Whether they are for several names."""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login attempt: ``generation`` is that of the user's password, None for an unknown name."""

    source: str
    name: str
    generation: str | None

    @property
    def digest(self) -> bytes:
        """Return a digest of the name and the password's generation; names may be long."""
        return _digest(self.name, self.generation or "")


@dataclass(slots=True)
class _KnownSource:
    """A source that has logged in with a name: failures from other sources do not delay it."""

    failures: Failures = field(default_factory=Failures)


class Throttle:
    """A count of wrong passwords by source and name, whether or not the user exists."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._key = secrets.token_hex(16)
        self._sources: OrderedDict[str, dict[int, Failures]] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], _KnownSource] = OrderedDict()

    def check(self, attempt: LoginAttempt) -> None:
        """Raise ApiError UNAUTHENTICATED if it is too early for another attempt."""
        found = self._counted(attempt)
        if found is None:
            return
        wait = found.last + delay(found.count) - self._clock()
        if wait > timedelta(0):
            seconds = math.ceil(wait.total_seconds())
            raise invalid_credentials("users.throttled", seconds, retry_after=seconds)

    def failed(self, attempt: LoginAttempt) -> None:
        """Count another wrong password."""
        found = self._counted(attempt)
        if found is None:
            found = self._count_for(attempt)
        found.mixed = found.count > 0 and (found.mixed or not _is_same_name(found, attempt))
        found.count += 1
        found.last, found.tried = self._clock(), attempt.digest

    def succeeded(self, attempt: LoginAttempt) -> None:
        """Reset the count, and remember the source as known."""
        name = _digest(attempt.name)
        names, bucket = self._sources.get(attempt.source, {}), self._bucket(attempt.name)
        if bucket in names and not names[bucket].mixed and _is_same_name(names[bucket], attempt):
            del names[bucket]  # failures for other names count on, whoever has logged in
        self._known[attempt.source, name] = _KnownSource()
        self._known.move_to_end((attempt.source, name))
        own = [key for key in self._known if key[1] == name]
        for key in own[:-MAX_KNOWN_SOURCES_PER_USER]:
            del self._known[key]
        if len(self._known) > MAX_KNOWN_SOURCES:
            self._known.popitem(last=False)

    def knows(self, source: str, name: str) -> bool:
        """Return whether a source has logged in with this name before."""
        return (source, _digest(name)) in self._known

    def _counted(self, attempt: LoginAttempt) -> Failures | None:
        """Return the failures that count against an attempt, if any."""
        known = self._known.get((attempt.source, _digest(attempt.name)))
        found = (
            known.failures
            if known is not None
            else self._sources.get(attempt.source, {}).get(self._bucket(attempt.name))
        )
        if found is None:
            return None
        if (
            _is_same_name(found, attempt) and found.tried != attempt.digest
        ) or self._clock() - found.last > FORGOTTEN_AFTER:
            found.count = 0
        return found

    def _count_for(self, attempt: LoginAttempt) -> Failures:
        names = self._sources.setdefault(attempt.source, {})
        self._sources.move_to_end(attempt.source)
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return names.setdefault(self._bucket(attempt.name), Failures())

    def _bucket(self, name: str) -> int:
        """Return the bucket of a name, by a secret key, so that attackers cannot choose one."""
        return int.from_bytes(_digest(self._key + name)[:4]) % NAME_BUCKETS_PER_SOURCE


def _digest(name: str, generation: str = "") -> bytes:
    parts = (hashlib.sha256(each.encode(errors="replace")).digest() for each in (name, generation))
    return b"".join(part[:_NAME_BYTES] for part in parts)


def _is_same_name(found: Failures, attempt: LoginAttempt) -> bool:
    """Return whether the last failure was for the name of this attempt."""
    return found.tried[:_NAME_BYTES] == attempt.digest[:_NAME_BYTES]


def delay(failures: int) -> timedelta:
    """Return the delay before the next attempt after this many wrong passwords."""
    if failures < FREE_ATTEMPTS:
        return timedelta(0)
    doublings = min(failures - FREE_ATTEMPTS, 16)
    return min(FIRST_DELAY * (1 << doublings), MAX_DELAY)


def invalid_credentials(*cause: object, retry_after: int | None = None) -> ApiError:
    """Return UNAUTHENTICATED for wrong credentials, with the message of the cause if any."""
    messages = [message("vapi.security.authentication.invalid")]
    if cause:
        messages.append(message(str(cause[0]), *cause[1:]))
    return ApiError(
        ErrorType.UNAUTHENTICATED, *messages, challenge=CHALLENGE, retry_after=retry_after
    )
