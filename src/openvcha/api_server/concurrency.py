"""Limits of concurrent calls, per caller and in total; some calls wait, others are refused.

Authenticated callers have slots that others cannot take. A body is read before its call takes a
slot, so slow senders hold none.
"""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api_server.auth.credentials import Principal
from openvcha.system.network.sources import source_of

RETRY_SECONDS: Final = 1


@dataclass(frozen=True)
class ConcurrencyLimit:
    """The number of concurrent calls, in total and per owner; how many more wait, and how long."""

    max_concurrent: int
    max_per_owner: int
    waiting: int
    seconds: float


LOOKUPS: Final = ConcurrencyLimit(32, 16, 64, 5.0)
"""Lookups of sessions and users, by source: each may read the store.

Passwords have limits of their own (`Users`, `PasswordQueue`): a caller whose credentials are
cached does not wait for those of others.
"""
USERS: Final = ConcurrencyLimit(32, 8, 64, 10.0)
ANONYMOUS: Final = ConcurrencyLimit(8, 4, 8, 5.0)


def part_of(limit: ConcurrencyLimit, workers: int) -> ConcurrencyLimit:
    """Return the limit of one of several processes, each of which has its own callers.

    A caller keeps its slots, and never gets more than half of them.
    """
    part = max(2 * limit.max_per_owner, -(-limit.max_concurrent // workers))
    return replace(limit, max_concurrent=min(limit.max_concurrent, part))


class ConcurrencyLimits:
    """The slots of all calls, in one of ``workers`` processes."""

    def __init__(self, workers: int = 1) -> None:
        self._lookups = SlotPool(part_of(LOOKUPS, workers))
        self._users = SlotPool(part_of(USERS, workers))
        self._anonymous = SlotPool(part_of(ANONYMOUS, workers))

    def looking_up(self, origin: str) -> AbstractAsyncContextManager[None]:
        """Hold a slot for looking up a session or a user. Raises ApiError SERVICE_UNAVAILABLE."""
        return self._lookups.take(source_of(origin))

    def executing(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """Hold a slot for an authenticated call. Raises ApiError SERVICE_UNAVAILABLE."""
        if principal.user is None:
            return self._anonymous.take(source_of(principal.caller.origin))
        return self._users.take(principal.user.name)


class SlotPool:
    """The slots of one kind, first come, first served."""

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self._limit = limit
        self._all = asyncio.Semaphore(limit.max_concurrent)
        self._by_owner: dict[str, asyncio.Semaphore] = {}
        self._counts: Counter[str] = Counter()

    def take(self, owner: str) -> "Slot":
        """Return a slot to hold during a block. Entering raises ApiError SERVICE_UNAVAILABLE."""
        return Slot(self, owner)

    async def enter(self, owner: str) -> None:
        """Wait for a slot. Raises like ``take``."""
        limit = self._limit
        if self._counts[owner] >= limit.max_per_owner + limit.waiting:
            raise _busy()
        self._counts[owner] += 1
        try:
            own = self._by_owner.get(owner)
            if own is None:
                own = self._by_owner[owner] = asyncio.Semaphore(limit.max_per_owner)
            await self._wait(own)
        except BaseException:
            self._withdraw(owner)
            raise

    def release(self, owner: str) -> None:
        """Release a slot."""
        self._all.release()
        self._by_owner[owner].release()
        self._withdraw(owner)

    def _withdraw(self, owner: str) -> None:
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner], self._by_owner[owner]

    async def _wait(self, own: asyncio.Semaphore) -> None:
        if not own.locked() and not self._all.locked():
            # There is no other waiter, so no deadline is needed.
            await own.acquire()
            await self._all.acquire()
            return
        try:
            async with asyncio.timeout(self._limit.seconds):
                await own.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    own.release()
                    raise
        except TimeoutError:
            raise _busy() from None


class Slot:
    """One slot, as a context manager."""

    __slots__ = ("_owner", "_pool")

    def __init__(self, pool: SlotPool, owner: str) -> None:
        self._pool = pool
        self._owner = owner

    async def __aenter__(self) -> None:
        """Wait for the slot."""
        await self._pool.enter(self._owner)

    async def __aexit__(self, *_: object) -> None:
        """Release the slot."""
        self._pool.release(self._owner)


def _busy() -> ApiError:
    text = message("server.busy")
    return ApiError(ErrorType.SERVICE_UNAVAILABLE, text, retry_after=RETRY_SECONDS)
