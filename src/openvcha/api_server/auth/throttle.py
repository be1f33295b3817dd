"""Wrong passwords in a row delay the next tries, by where they come from and the name they try.

So nobody keeps a user out from elsewhere. All is in this process's memory, within bounds, and
no failure writes into the store: a takeover begins to count from nothing.
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

FREE_TRIES: Final = 5
FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(minutes=5)
FORGOTTEN_AFTER: Final = timedelta(hours=1)
MOST_SOURCES: Final = 512
NAMES_OF_SOURCE: Final = 32
"""The names that a source tries share so many counts: more names bring no more tries."""
MOST_KNOWN: Final = 1024
SOURCES_OF_USER: Final = 16
NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NAME_BYTES: Final = 16
CHALLENGE: Final = 'Basic realm="openvcha"'


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Failures:
    """How many wrong passwords in a row, when the last one was, and for which password."""

    count: int = 0
    last: datetime = NEVER
    tried: bytes = b""


@dataclass(frozen=True, slots=True)
class Try:
    """A try to log in: ``generation`` is that of the user's password, None for an unknown name."""

    source: str
    name: str
    generation: str | None

    @property
    def digest(self) -> bytes:
        """Return what stands for the name with its password; names may be long."""
        return _digest(self.name, self.generation or "")


@dataclass(slots=True)
class _Known:
    """A source that has logged in by a name: others hold it up no more."""

    failures: Failures = field(default_factory=Failures)


class Throttle:
    """Counts wrong passwords by source and name, whether or not there is such a user."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._key = secrets.token_hex(16)
        self._sources: OrderedDict[str, dict[int, Failures]] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], _Known] = OrderedDict()

    def check(self, one: Try) -> None:
        """Raise ApiError UNAUTHENTICATED when it is too early for another try."""
        found = self._counted(one)
        if found is None:
            return
        wait = found.last + delay(found.count) - self._clock()
        if wait > timedelta(0):
            seconds = math.ceil(wait.total_seconds())
            raise refused("users.throttled", seconds, retry_after=seconds)

    def failed(self, one: Try) -> None:
        """Count one more wrong password."""
        found = self._counted(one)
        if found is None:
            found = self._begun(one)
        found.count += 1
        found.last, found.tried = self._clock(), one.digest

    def succeeded(self, one: Try) -> None:
        """Forget the wrong passwords, and know the source from now on."""
        name = _digest(one.name)
        self._sources.get(one.source, {}).pop(self._bucket(one.name), None)
        self._known[one.source, name] = _Known()
        self._known.move_to_end((one.source, name))
        own = [key for key in self._known if key[1] == name]
        for key in own[:-SOURCES_OF_USER]:
            del self._known[key]
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def knows(self, source: str, name: str) -> bool:
        """Return whether a source has logged in by this name before."""
        return (source, _digest(name)) in self._known

    def _counted(self, one: Try) -> Failures | None:
        """Find what counts against a try; None: nothing (any more)."""
        known = self._known.get((one.source, _digest(one.name)))
        found = (
            known.failures
            if known is not None
            else self._sources.get(one.source, {}).get(self._bucket(one.name))
        )
        if found is None:
            return None
        same_name = found.tried[:_NAME_BYTES] == one.digest[:_NAME_BYTES]
        if (
            same_name and found.tried != one.digest
        ) or self._clock() - found.last > FORGOTTEN_AFTER:
            found.count = 0
        return found

    def _begun(self, one: Try) -> Failures:
        names = self._sources.setdefault(one.source, {})
        self._sources.move_to_end(one.source)
        if len(self._sources) > MOST_SOURCES:
            self._sources.popitem(last=False)
        return names.setdefault(self._bucket(one.name), Failures())

    def _bucket(self, name: str) -> int:
        """Choose the count of a name by a key that nobody knows, so that none can be aimed at."""
        return int.from_bytes(_digest(self._key + name)[:4]) % NAMES_OF_SOURCE


def _digest(name: str, generation: str = "") -> bytes:
    parts = (hashlib.sha256(each.encode(errors="replace")).digest() for each in (name, generation))
    return b"".join(part[:_NAME_BYTES] for part in parts)


def delay(failures: int) -> timedelta:
    """How long after the last of so many wrong passwords the next try has to wait."""
    if failures < FREE_TRIES:
        return timedelta(0)
    doublings = min(failures - FREE_TRIES, 16)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)


def refused(*cause: object, retry_after: int | None = None) -> ApiError:
    """Make the UNAUTHENTICATED of wrong credentials, with the message of its cause if any."""
    messages = [message("vapi.security.authentication.invalid")]
    if cause:
        messages.append(message(str(cause[0]), *cause[1:]))
    return ApiError(
        ErrorType.UNAUTHENTICATED, *messages, challenge=CHALLENGE, retry_after=retry_after
    )
