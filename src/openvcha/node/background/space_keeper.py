"""Space in the store: each data node reports its use, defragments it, and frees space if full.

Every data node does this, so that it works without a leader. A key with a lease ensures that only
one does it at a time; a full store grants no lease, and then it is the turn of the leader, or of
the first node by name.
"""

import asyncio
import os

from openvcha.node.background.context import NodeContext
from openvcha.store import keys, space
from openvcha.store.errors import StoreError, StoreFull
from openvcha.store.lease import acquire
from openvcha.store.space import SpaceReport, percent
from openvcha.system.files.locks import try_lock
from openvcha.system.repeating import repeat

POLL_SECONDS = 30.0
FULL_SECONDS = 5.0
TURN_SECONDS = 30.0
FUTILE_SECONDS = 600.0
"""The pause after a futile attempt to free space, while nothing has changed since."""
LOCK_SECONDS = 15
MIB = 1 << 20


async def keep_space(context: NodeContext) -> None:
    """Watch the store until canceled, and free space when needed."""
    if not context.identity.holds_data:
        await asyncio.Event().wait()
    keeper = SpaceKeeper(context)

    async def poll() -> float:
        return FULL_SECONDS if await keeper.run_once() else POLL_SECONDS

    await repeat(poll, POLL_SECONDS)


class SpaceKeeper:
    """One data node's watch of the space in the store's members."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._quota = context.identity.store.quota_bytes
        self._clock = asyncio.get_running_loop().time
        self._full_since: float | None = None
        self._futile: tuple[float, int] | None = None
        """When the store stayed full after freeing space, and its revision then."""

    async def run_once(self) -> bool:
        """Check once, act, and return whether the store is full."""
        try:
            found = await space.measure(self._context.store)
            self._context.control.tell("room", self._describe(found))
            if not found.full:
                self._full_since = self._futile = None
                await self._defragment_if_worth(found)
                return False
            await self._free_space(found)
        except StoreFull:
            return True  # it has just become full: the next run finds the alarm
        except StoreError as error:
            self._context.events.info("cannot free space in the store", reason=str(error))
            return self._full_since is not None
        return True

    def _describe(self, found: SpaceReport) -> str | None:
        largest = found.largest
        if largest is None:
            return None
        # Whole mebibytes: each change of a note is logged.
        limit = largest.limit(self._quota)
        size, quota = -(-largest.size // MIB), limit // MIB
        return f"the store uses {size} of {quota} MiB ({percent(largest.size, limit)} %)"

    async def _defragment_if_worth(self, found: SpaceReport) -> None:
        """Defragment one member if it is worthwhile; the next run handles the next member."""
        worth = [one for one in found.in_order if space.is_worthwhile(one, self._quota)]
        if not worth or found.why_not():
            return
        hold = await acquire(
            self._context.store,
            keys.DEFRAGMENTATION,
            self._context.identity.member.encode(),
            LOCK_SECONDS,
        )
        if hold is None:
            return
        async with hold:
            now = await space.measure(self._context.store)
            one = next(
                (each for each in now.in_order if space.is_worthwhile(each, self._quota)), None
            )
            if one is not None and now.why_not() is None and not hold.lost.is_set():
                await space.defragment(self._context.store, one, now.in_order)
                self._context.events.info(
                    "the store was defragmented", member=one.name, free=one.free
                )

    async def _free_space(self, found: SpaceReport) -> None:
        """Free space so that the store accepts writes again, once it is this node's turn."""
        if self._full_since is None:
            self._full_since = self._clock()
        if self._is_futile(found) or not await self._has_turn(found):
            return
        # It grants no lease, so no key excludes `vcha node store defragment`: a file here does.
        descriptor = try_lock(self._context.layout.space_lock)
        if descriptor is None:
            return
        try:
            after = await self._reclaim()
        finally:
            os.close(descriptor)
        self._futile = (self._clock(), after.revision) if after.full else None
        self._context.events.warning("freed space in the store", full=after.full)

    async def _reclaim(self) -> SpaceReport:

        async def before_each() -> None:
            if not await self._has_turn(await space.measure(self._context.store)):
                raise StoreError("another node frees the space now")

        self._context.events.warning("the store is full; freeing space")
        store = self._context.store
        return await space.reclaim(store, self._quota, self._log_step, before_each=before_each)

    def _is_futile(self, found: SpaceReport) -> bool:
        """Return whether freeing space has just failed to help: it stops each member in turn."""
        if self._futile is None:
            return False
        tried, revision = self._futile
        waits = FUTILE_SECONDS if found.revision == revision else TURN_SECONDS
        return self._clock() - tried < waits

    async def _has_turn(self, found: SpaceReport) -> bool:
        leader = await self._context.store.get(keys.PATRONI_LEADER)
        own = self._context.identity.member
        if leader is not None:
            return leader.value == own.encode()
        names = [one.name for one in found.in_order if one.ours]
        waits = sorted(names).index(own) if own in names else len(names)
        return self._clock() - (self._full_since or 0.0) >= waits * TURN_SECONDS

    def _log_step(self, text: str) -> None:
        self._context.events.info("store space", member=text)
