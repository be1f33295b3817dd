"""Room in the store: how full its members are, and how they are given room, one after the other.

Etcd compacts by itself, each hour; but the file of a member stays as large as it ever was, and
counts against the quota, until the member is defragmented. It answers nobody meanwhile. So it is
done only when it pays, to one member at a time, to the one that leads last, and with all of them
there. Where the store is full already nobody can write anyway: then it is done all the same.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.interface import EndpointStatus, Member

WARN_PERCENT: Final = 70
PAYS_PERCENT, PAYS_WHEN_WARNED_PERCENT = 25, 10
"""How much of the quota must come free, so that a member may be away for it."""
ANSWER_SECONDS: Final = 5.0
ENOUGH_PERCENT: Final = 95
"""A store that is larger would be full again at the next write."""
AGREE_PERCENT: Final = 5
"""Members hold the same: one that has this much more of the quota in use still compacts."""
WITNESS_QUOTAS: Final = 2
"""A witness's quota, in those of a data node: its file only grows, to what the data nodes have had
at once, and a witness that is full would keep all members from writing."""
COMPACTED_SECONDS, COMPACTED_POLL_SECONDS = 10.0, 0.2
PASSES: Final = 3


class RoomyStore(Protocol):
    """What this needs of the client of the store."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Return the places (URLs) that the account may be shown."""

    async def members(self, *, local: bool = False) -> list[Member]:
        """List the members."""

    async def status(self, endpoint: str) -> EndpointStatus:
        """Ask one endpoint (URL) for its own view."""

    async def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""

    async def defragment(self, endpoint: str) -> None:
        """Return what is free in a member's file to the disk; it answers nobody meanwhile."""

    async def full_members(self) -> frozenset[int]:
        """Return the ids of the members whose database is full."""

    async def disarm(self, members: frozenset[int]) -> None:
        """Take back the alarm of these members."""

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Let the member that leads, at ``endpoint``, give the lead to another."""


@dataclass(frozen=True, slots=True)
class MemberRoom:
    """One member that answers: the bytes of its file, and those of them that are in use.

    One that is not ``ours``, a witness, is shown no account, without which it does not defragment.
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
        """Return what a defragmentation would give back."""
        return max(0, self.size - self.in_use)

    def limit(self, quota: int) -> int:
        """Return the bytes that its file may have, by a data node's quota."""
        return quota if self.ours else WITNESS_QUOTAS * quota


@dataclass(frozen=True, slots=True)
class Room:
    """All members, as they were just now; ``full``: the alarm is on, and nobody can write."""

    members: tuple[MemberRoom, ...]
    silent: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    full: bool = False
    revision: int = 0

    @property
    def largest(self) -> MemberRoom | None:
        """Return the member that is full first."""
        return max(self.members, key=lambda one: one.size / one.limit(1), default=None)

    @property
    def in_order(self) -> tuple[MemberRoom, ...]:
        """Return the members in the order in which they may be away: the one that leads last."""
        return tuple(sorted(self.members, key=lambda one: (one.leads, one.name)))

    def why_not(self) -> str | None:
        """Return why no member may be away now; None when one may."""
        if self.full:
            return None
        if self.silent:
            return f"{', '.join(self.silent)} does not respond"
        if self.learners:
            return f"{', '.join(self.learners)} is being added"
        return None if any(one.leads for one in self.members) else "no member leads"


def percent(size: int, quota: int) -> int:
    """Return how much of the quota is taken."""
    return size * 100 // max(quota, 1)


def pays(one: MemberRoom, quota: int) -> bool:
    """Return whether enough comes free for a member to be away, and it would do it for us."""
    if not one.ours:
        return False
    warned = percent(one.size, quota) >= WARN_PERCENT
    return percent(one.free, quota) >= (PAYS_WHEN_WARNED_PERCENT if warned else PAYS_PERCENT)


async def look(
    store: RoomyStore,
    seconds: float = ANSWER_SECONDS,
    members: Sequence[Member] | None = None,
) -> Room:
    """Ask all members, each within so many seconds; ``members`` are those just listed.

    Raises StoreUnavailable when there is no quorum.
    """
    members = await store.members() if members is None else members
    voters = [one for one in members if not one.learner and one.client_urls]
    found = await asyncio.gather(*(_asked(store, one, seconds) for one in voters))
    answers = [(one, status) for one, status in zip(voters, found, strict=True) if status]
    # A witness may be a thief's: the alarm and the revision are what our own members say.
    own = [status for one, status in answers if one.client_urls[0] in store.endpoints]
    return Room(
        members=tuple(_room(one, status, store.endpoints) for one, status in answers),
        silent=tuple(one.name for one, status in zip(voters, found, strict=True) if not status),
        learners=tuple(one.name for one in members if one.learner),
        full=any(status.full for status in own),
        revision=max((status.revision for status in own), default=0),
    )


async def defragment(store: RoomyStore, one: MemberRoom, others: Sequence[MemberRoom]) -> None:
    """Defragment one member; one that leads hands the lead over before. Raises StoreError."""
    successor = next((other for other in others if other.member_id != one.member_id), None)
    if one.leads and successor is not None:
        await store.move_leader(one.endpoint, successor.member_id)
    await store.defragment(one.endpoint)


async def make_room(
    store: RoomyStore,
    quota: int,
    told: Callable[[str], None],
    *,
    every: bool = False,
) -> Room:
    """Compact, give room to each member where it pays (or to ``every`` one), end the alarm.

    A full store takes no writes, so that nobody misses a member that is away: there it pays always.
    Returns what there is then. Raises StoreError.
    """
    before = await look(store)
    with contextlib.suppress(StoreError):  # it may be compacted up to there already
        await store.compact(before.revision)
    room = await _compacted(store, quota)
    for _ in range(PASSES):
        for one in room.in_order:
            if one.ours and (every or room.full or pays(one, quota)):
                await defragment(store, one, room.in_order)
                told(f"{one.name}: freed {one.free} of {one.size} bytes")
        room = await look(store)
        if not room.full or _has_room(room, quota):
            break
    if room.full and _has_room(room, quota):
        await store.disarm(await store.full_members())
        room = await _disarmed(store)
    return room


async def _disarmed(store: RoomyStore) -> Room:
    """Wait until each member knows that the alarm is over, at most COMPACTED_SECONDS."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + COMPACTED_SECONDS
    room = await look(store)
    while room.full and clock() < deadline:
        await asyncio.sleep(COMPACTED_POLL_SECONDS)
        room = await look(store)
    return room


async def _compacted(store: RoomyStore, quota: int) -> Room:
    """Wait until all members have compacted, each in its own time; at most COMPACTED_SECONDS.

    One that is defragmented before gives nothing back.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + COMPACTED_SECONDS
    before: Sequence[MemberRoom] = ()
    room = await look(store)
    while clock() < deadline and not (_steady(before, room.members) and _agree(room, quota)):
        await asyncio.sleep(COMPACTED_POLL_SECONDS)
        before, room = room.members, await look(store)
    return room


def _steady(before: Sequence[MemberRoom], now: Sequence[MemberRoom]) -> bool:
    """Return whether no member has become emptier between two looks."""
    used = {one.member_id: one.in_use for one in before}
    return all(one.in_use >= used.get(one.member_id, one.size) for one in now if one.ours)


def _agree(room: Room, quota: int) -> bool:
    used = [one.in_use for one in room.members if one.ours]
    return percent(max(used, default=0) - min(used, default=0), quota) < AGREE_PERCENT


def _has_room(room: Room, quota: int) -> bool:
    taken = [percent(one.size, one.limit(quota)) for one in room.members]
    return max(taken, default=100) < ENOUGH_PERCENT


def _room(member: Member, status: EndpointStatus, ours: Sequence[str]) -> MemberRoom:
    return MemberRoom(
        member_id=member.id,
        name=member.name,
        endpoint=member.client_urls[0],
        size=status.db_size,
        in_use=status.db_in_use,
        leads=status.leader == member.id,
        ours=member.client_urls[0] in ours,
    )


async def _asked(store: RoomyStore, member: Member, seconds: float) -> EndpointStatus | None:
    try:
        async with asyncio.timeout(seconds):
            return await store.status(member.client_urls[0])
    except (StoreUnavailable, TimeoutError):
        return None
