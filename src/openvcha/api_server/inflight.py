"""How many calls are worked on at once, of one caller and of all; some wait, others are refused.

Who has shown who he is has places that strangers cannot take. A body is read before its call has a
place, so that who sends slowly holds none.
"""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import Operation
from openvcha.api_server.auth.credentials import Credentials, Visitor, logs_in
from openvcha.events.budget import source_of

RETRY_SECONDS: Final = 1


@dataclass(frozen=True)
class Share:
    """So many ``at_once``, so many of one owner, and how many more of one wait for how long."""

    at_once: int
    of_owner: int
    waiting: int
    seconds: float


LOOKUPS: Final = Share(32, 16, 64, 5.0)
"""Of sessions, by source: each may be a read of the store."""
PASSWORDS: Final = Share(128, 32, 0, 0.0)
"""By source; these only wait: how many are looked at is for `Turns` to say."""
USERS: Final = Share(32, 8, 64, 10.0)
STRANGERS: Final = Share(8, 4, 8, 5.0)


class InFlight:
    """The places of all calls."""

    def __init__(self) -> None:
        self._lookups = Places(LOOKUPS)
        self._passwords = Places(PASSWORDS)
        self._users = Places(USERS)
        self._strangers = Places(STRANGERS)

    def entering(
        self, operation: Operation, given: Credentials, origin: str
    ) -> AbstractAsyncContextManager[None]:
        """Take a place for finding out who calls. Raises ApiError SERVICE_UNAVAILABLE."""
        if given.token is not None and not logs_in(operation):
            return self.looking_up(origin)
        return self._passwords.take(source_of(origin))

    def looking_up(self, origin: str) -> AbstractAsyncContextManager[None]:
        """Take a place for looking up a session. Raises ApiError SERVICE_UNAVAILABLE."""
        return self._lookups.take(source_of(origin))

    def working(self, visitor: Visitor) -> AbstractAsyncContextManager[None]:
        """Take a place for a call that is let in. Raises ApiError SERVICE_UNAVAILABLE."""
        if visitor.user is None:
            return self._strangers.take(source_of(visitor.caller.origin))
        return self._users.take(visitor.user.name)


class Places:
    """The places of one kind, first come, first served."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._all = asyncio.Semaphore(share.at_once)
        self._own: dict[str, asyncio.Semaphore] = {}
        self._there: Counter[str] = Counter()

    def take(self, owner: str) -> "Place":
        """Take a place during a block. Raises ApiError SERVICE_UNAVAILABLE with a time to wait."""
        return Place(self, owner)

    async def enter(self, owner: str) -> None:
        """Wait for a place. Raises as ``take``."""
        share = self._share
        if self._there[owner] >= share.of_owner + share.waiting:
            raise _busy()
        self._there[owner] += 1
        try:
            own = self._own.get(owner)
            if own is None:
                own = self._own[owner] = asyncio.Semaphore(share.of_owner)
            await self._wait(own)
        except BaseException:
            self._gone(owner)
            raise

    def leave(self, owner: str) -> None:
        """Release a place."""
        self._all.release()
        self._own[owner].release()
        self._gone(owner)

    def _gone(self, owner: str) -> None:
        self._there[owner] -= 1
        if not self._there[owner]:
            del self._there[owner], self._own[owner]

    async def _wait(self, own: asyncio.Semaphore) -> None:
        if not own.locked() and not self._all.locked():
            # Nobody waits, so there is no need for a deadline.
            await own.acquire()
            await self._all.acquire()
            return
        try:
            async with asyncio.timeout(self._share.seconds):
                await own.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    own.release()
                    raise
        except TimeoutError:
            raise _busy() from None


class Place:
    """One place, for a block."""

    __slots__ = ("_owner", "_places")

    def __init__(self, places: Places, owner: str) -> None:
        self._places = places
        self._owner = owner

    async def __aenter__(self) -> None:
        """Wait for it."""
        await self._places.enter(self._owner)

    async def __aexit__(self, *_: object) -> None:
        """Release it."""
        self._places.leave(self._owner)


def _busy() -> ApiError:
    text = message("server.busy")
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=RETRY_SECONDS)
