"""Space of the store: how full its members are, and how to reclaim it, one member at a time.

etcd compacts its history hourly, but the database file of a member keeps its size, which counts
against the quota, until the member is defragmented. Meanwhile the member does not respond. So a
member is defragmented only if it is worthwhile and all members are up, one at a time, the leader
last. A full store refuses writes in any case: then it is always done.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from openvcha.store import keys
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.interface import EndpointStatus, Member, Store

WARN_PERCENT: Final = 70
MIN_FREE_PERCENT, MIN_FREE_WHEN_WARNED_PERCENT = 25, 10
"""The part of the quota that must become free to justify a member's absence."""
ANSWER_SECONDS: Final = 5.0
ENOUGH_PERCENT: Final = 95
"""A larger store would be full again at the next write."""
AGREE_PERCENT: Final = 5
"""Members have equal data: one with this much more in use is still compacting."""
WITNESS_QUOTAS: Final = 2
"""A witness's quota as a multiple of a data node's: its file only grows, up to the largest size
that the data nodes' data ever had, and a full witness would block the writes of all members."""
COMPACTED_SECONDS, COMPACTED_POLL_SECONDS = 10.0, 0.2
MAX_PASSES: Final = 3


class SpaceStore(Protocol):
    """The part of the store's client that this module needs."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Return the URLs that may receive the account."""

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members."""

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the view of one endpoint (URL)."""

    async def compact(self, revision: int) -> None:
        """Compact the history before ``revision``."""

    async def defragment(self, endpoint: str) -> None:
        """Defragment a member's database; it does not respond meanwhile."""

    async def members_without_space(self) -> frozenset[int]:
        """Return the ids of the members with a NOSPACE alarm."""

    async def disarm_alarm(self, members: frozenset[int]) -> None:
        """Clear the NOSPACE alarm of these members."""

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Make the leader, which listens at ``endpoint``, transfer its leadership."""


@dataclass(frozen=True, slots=True)
class MemberSpace:
    """A member that responds: the size of its database, and the bytes in use.

    A member that is not ``ours``, a witness, receives no account, so it cannot be defragmented.
    """

    member_id: int
    name: str
    endpoint: str
    size: int
    in_use: int
    leads: bool = False
    ours: bool = True

    @property
    def free(self) -> int:
        """Return the bytes that a defragmentation would free."""
        return max(0, self.size - self.in_use)

    def limit(self, quota: int) -> int:
        """Return the maximum size of its database, given a data node's quota."""
        return quota if self.ours else WITNESS_QUOTAS * quota


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """The space of all members; ``full``: an alarm is on, and the store refuses writes."""

    members: tuple[MemberSpace, ...]
    silent: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    full: bool = False
    revision: int = 0

    @property
    def largest(self) -> MemberSpace | None:
        """Return the member that will be full first."""
        return max(self.members, key=lambda one: one.size / one.limit(1), default=None)

    @property
    def in_order(self) -> tuple[MemberSpace, ...]:
        """Return the members in the order of defragmentation: the leader last."""
        return tuple(sorted(self.members, key=lambda one: (one.leads, one.name)))

    def why_not(self) -> str | None:
        """Return why no member may be unavailable now; None when one may."""
        if self.full:
            return None
        if self.silent:
            return f"{', '.join(self.silent)} does not respond"
        if self.learners:
            return f"{', '.join(self.learners)} is being added"
        return None if any(one.leads for one in self.members) else "no member leads"


def percent(size: int, quota: int) -> int:
    """Return the used percentage of the quota."""
    return size * 100 // max(quota, 1)


def is_worthwhile(one: MemberSpace, quota: int) -> bool:
    """Return whether a defragmentation would free enough, on one of our own members."""
    if not one.ours:
        return False
    warned = percent(one.size, quota) >= WARN_PERCENT
    return percent(one.free, quota) >= (
        MIN_FREE_WHEN_WARNED_PERCENT if warned else MIN_FREE_PERCENT
    )


async def measure(
    store: SpaceStore,
    seconds: float = ANSWER_SECONDS,
    members: Sequence[Member] | None = None,
) -> SpaceReport:
    """Ask all members for their space, each within ``seconds``.

    Raises StoreUnavailable when there is no quorum.
    """
    members = await store.members() if members is None else members
    voters = [one for one in members if not one.learner and one.client_urls]
    found = await asyncio.gather(*(_asked(store, one, seconds) for one in voters))
    answers = [(one, status) for one, status in zip(voters, found, strict=True) if status]
    # A witness may be stolen: only our own members decide on the alarm and the revision.
    own = [status for one, status in answers if one.client_urls[0] in store.endpoints]
    return SpaceReport(
        members=tuple(_member_space(one, status, store.endpoints) for one, status in answers),
        silent=tuple(one.name for one, status in zip(voters, found, strict=True) if not status),
        learners=tuple(one.name for one in members if one.learner),
        full=any(status.full for status in own),
        revision=max((status.revision for status in own), default=0),
    )


async def in_charge(store: Store, room: SpaceReport) -> str | None:
    """Return the member whose node frees space in a full store, which grants no lock.

    It is the leader's, or without one that responds, the first one that does, by name; None if no
    data node's does. Raises StoreUnavailable.
    """
    names = sorted(one.name for one in room.members if one.ours)
    leader = await store.get(keys.PATRONI_LEADER)
    if leader is not None and (name := leader.value.decode(errors="replace")) in names:
        return name
    return names[0] if names else None


async def defragment(store: SpaceStore, one: MemberSpace, others: Sequence[MemberSpace]) -> None:
    """Defragment a member; a leader first transfers its leadership. Raises StoreError."""
    successor = next((other for other in others if other.member_id != one.member_id), None)
    if one.leads and successor is not None:
        await store.move_leader(one.endpoint, successor.member_id)
    await store.defragment(one.endpoint)


async def reclaim(
    store: SpaceStore,
    quota: int,
    told: Callable[[str], None],
    *,
    every: bool = False,
    before_each: Callable[[], Awaitable[None]] | None = None,
) -> SpaceReport:
    """Compact, defragment the members where it is worthwhile (or ``every`` one), clear the alarm.

    On a full store it is always worthwhile, even if a member is silent: nothing else lets it accept
    writes again. Two absent members would end reads and leases, too, so only one caller may do this
    at a time. ``before_each`` ends it by raising. Return the space afterwards. Raises StoreError.
    """
    before = await measure(store)
    with contextlib.suppress(StoreError):  # it may already be compacted up to there
        await store.compact(before.revision)
    room = await _wait_compacted(store, quota)
    for _ in range(MAX_PASSES):
        for one in room.in_order:
            if one.ours and (every or room.full or is_worthwhile(one, quota)):
                if before_each is not None:
                    await before_each()
                await defragment(store, one, room.in_order)
                told(f"{one.name}: freed {one.free} of {one.size} bytes")
        room = await measure(store)
        if not room.full or _has_space(room, quota):
            break
    if room.full and _has_space(room, quota):
        await store.disarm_alarm(await store.members_without_space())
        room = await _wait_disarmed(store)
    return room


async def _wait_disarmed(store: SpaceStore) -> SpaceReport:
    """Wait until each member has cleared the alarm, at most COMPACTED_SECONDS."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + COMPACTED_SECONDS
    room = await measure(store)
    while room.full and clock() < deadline:
        await asyncio.sleep(COMPACTED_POLL_SECONDS)
        room = await measure(store)
    return room


async def _wait_compacted(store: SpaceStore, quota: int) -> SpaceReport:
    """Wait until all members have compacted, at most COMPACTED_SECONDS.

    A member that is defragmented earlier frees no space.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + COMPACTED_SECONDS
    before: Sequence[MemberSpace] = ()
    room = await measure(store)
    while clock() < deadline and not (_steady(before, room.members) and _agree(room, quota)):
        await asyncio.sleep(COMPACTED_POLL_SECONDS)
        before, room = room.members, await measure(store)
    return room


def _steady(before: Sequence[MemberSpace], now: Sequence[MemberSpace]) -> bool:
    """Return whether no member's usage has shrunk between two measurements."""
    used = {one.member_id: one.in_use for one in before}
    return all(one.in_use >= used.get(one.member_id, one.size) for one in now if one.ours)


def _agree(room: SpaceReport, quota: int) -> bool:
    used = [one.in_use for one in room.members if one.ours]
    return percent(max(used, default=0) - min(used, default=0), quota) < AGREE_PERCENT


def _has_space(room: SpaceReport, quota: int) -> bool:
    taken = [percent(one.size, one.limit(quota)) for one in room.members]
    return max(taken, default=100) < ENOUGH_PERCENT


def _member_space(member: Member, status: EndpointStatus, ours: Sequence[str]) -> MemberSpace:
    return MemberSpace(
        member_id=member.id,
        name=member.name,
        endpoint=member.client_urls[0],
        size=status.db_size,
        in_use=status.db_in_use,
        leads=status.leader == member.id,
        ours=member.client_urls[0] in ours,
    )


async def _asked(store: SpaceStore, member: Member, seconds: float) -> EndpointStatus | None:
    try:
        async with asyncio.timeout(seconds):
            return await store.status(member.client_urls[0])
    except (StoreUnavailable, TimeoutError):
        return None
