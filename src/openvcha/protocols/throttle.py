"""Wrong passwords in a row delay the next tries, counted in the store for all nodes."""

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.store import keys
from openvcha.store.protocol import Compare, Put, Store, absent, unchanged
from openvcha.store.records import Record, Stored, encode

FREE_TRIES = 5
FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)
FORGOTTEN_AFTER = timedelta(hours=1)
CHALLENGE = 'Basic realm="openvcha"'


def now() -> datetime:
    """Give the time, with its zone."""
    return datetime.now(UTC)


class Failures(msgspec.Struct, frozen=True):
    """How many wrong passwords in a row, and when the last one was."""

    count: int
    last: datetime


class Throttle:
    """Counts wrong passwords by user name, whether or not there is such a user."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._clock = clock

    async def check(self, name: str) -> bool:
        """Say whether there are failures to forget; raises UNAUTHENTICATED when it is too early."""
        stored = await self._record(name).sound()
        if stored is None:
            return False
        found = stored.value
        wait = found.last + delay(found.count) - self._clock()
        if wait > timedelta(0):
            raise refused("users.throttled", math.ceil(wait.total_seconds()))
        return True

    async def failed(self, name: str) -> None:
        """Count one more wrong password."""
        lease = await self._store.lease_grant(int(FORGOTTEN_AFTER.total_seconds()))
        record = self._record(name)
        while not await self._count(record.key, await record.sound(), lease):
            pass  # another node counted in between: count on from there

    async def succeeded(self, name: str) -> None:
        """Forget the wrong passwords."""
        await self._record(name).delete()

    async def _count(self, key: str, found: Stored[Failures] | None, lease: int) -> bool:
        unbroken: Compare = absent(key) if found is None else unchanged(found.kv)
        count = 1 if found is None else found.value.count + 1
        value = encode(Failures(count, self._clock()))
        return (await self._store.txn([unbroken], [Put(key, value, lease)])).succeeded

    def _record(self, name: str) -> Record[Failures]:
        return Record(self._store, keys.login(_hash(name)), Failures)


def delay(failures: int) -> timedelta:
    """How long after the last of so many wrong passwords the next try has to wait."""
    if failures < FREE_TRIES:
        return timedelta(0)
    doublings = min(failures - FREE_TRIES, 16)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)


def refused(*cause: object) -> ApiError:
    """Make the UNAUTHENTICATED of wrong credentials, with the message of its cause if any."""
    messages = [message("vapi.security.authentication.invalid")]
    if cause:
        messages.append(message(str(cause[0]), *cause[1:]))
    return ApiError(ErrorType.UNAUTHENTICATED, *messages, challenge=CHALLENGE)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


prepare(__name__)
