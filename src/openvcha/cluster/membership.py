"""Votes in etcd: a member is removed before one is added, so there are never four voters.

A member that has not started yet has no name in etcd; its peer URL identifies it. A node that
takes over the HA address of another has the same peer URL: to find the *old* one, use its name
alone.
"""

import contextlib
from collections.abc import Collection

from openvcha.store.errors import (
    LearnerNotReady,
    MemberNotFound,
    NotLearner,
    PeerExists,
    StoreError,
)
from openvcha.store.interface import Member, Membership


async def find_member(store: Membership, name: str, peer_url: str | None = None) -> Member | None:
    """Find a member by its name or, while it is unnamed, by its peer URL if one is given."""
    members = await store.members()
    return choose_member(members, name, peer_url)


def choose_member(members: list[Member], name: str, peer_url: str | None) -> Member | None:
    """Return the matching member; a *named* one with the same URL is another incarnation."""
    return next(
        (m for m in members if m.name == name or (not m.name and peer_url in m.peer_urls)), None
    )


async def remove(store: Membership, name: str, peer_url: str | None = None) -> None:
    """Remove the voter that ``find_member`` finds, if any. Idempotent."""
    found = await find_member(store, name, peer_url)
    if found is not None:
        await _remove(store, found)


async def remove_unknown(
    store: Membership, names: Collection[str], peer_urls: Collection[str]
) -> None:
    """Remove every member that has none of the names nor, if unnamed, one of the URLs.

    Such a member is left over from an operation that could not be rolled back. It would block the
    next one: etcd permits one learner at a time and one member per URL, and a dead voter counts
    for the quorum.
    """
    for member in await store.members():
        ours = (
            member.name in names if member.name else not set(peer_urls).isdisjoint(member.peer_urls)
        )
        if not ours:
            await _remove(store, member)


async def _remove(store: Membership, member: Member) -> None:
    try:
        await store.member_remove(member.id)
    except MemberNotFound:
        return


async def ensure_learner(store: Membership, name: str, peer_url: str) -> None:
    """Register a new node as a learner, unless it is registered already."""
    if await find_member(store, name, peer_url) is not None:
        return
    try:
        await store.member_add([peer_url], learner=True)
    except PeerExists:
        return


async def promote(store: Membership, name: str, peer_url: str) -> bool:
    """Try to promote a learner to a voter; False while it has not started or caught up."""
    found = await find_member(store, name, peer_url)
    if found is None or not found.name:
        return False
    if not found.learner:
        return True
    try:
        await store.member_promote(found.id)
    except (LearnerNotReady, MemberNotFound):
        return False
    except NotLearner:
        return True
    return True


async def initial_cluster(store: Membership, name: str, peer_url: str) -> dict[str, str]:
    """Return every member's name and peer URL, for the first start of a new etcd member."""
    members = await store.members()
    known = {m.name: m.peer_urls[0] for m in members if m.name}
    return {**known, name: peer_url}


async def ensure_leader(store: Membership, name: str) -> None:
    """Move the store's leadership to this member if possible: a removal then needs no election.

    That is an optimization: an election takes about a second.
    """
    with contextlib.suppress(StoreError):
        members = {member.id: member for member in await store.members()}
        own = next(member for member in members.values() if member.name == name)
        now = (await store.status(own.client_urls[0])).leader
        if now != own.id and now in members:
            await store.move_leader(members[now].client_urls[0], own.id)
