"""Powering on the nodes that a running task needs when the store has stopped or no node leads.

Tasks live in the store and wait for it, so this reads only the node's own disk, its own etcd member
and the infrastructure. It runs on every node: any of them may be the only one left. Once the task
has ended, a background job deletes the required votes: see node/background/required_votes.py.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from openvcha.api.errors import ApiError
from openvcha.api.prepared import prepare
from openvcha.infrastructure.interface import Infrastructure, NodeState, Power
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import is_healthy, known_endpoints, peer_url
from openvcha.node.http import ask
from openvcha.node.identity import Identity, Timers
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    is_fresh,
    load_required_votes,
    needs_vote,
    renew_required_votes,
    vms_to_power_on,
)
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.member_pages import MEMBERS, read_members
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 1.0
PROBE_SECONDS = 2.0
RENEW_SECONDS = 30.0
"""How stale the time of a list may be on disk while this node waits with it."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LocalMeans:
    """What a node can observe and do without the store. ``member`` is its own name."""

    member: str
    required_votes: Callable[[], RequiredVotes | None]
    """The list on the node's own disk; None if it is stale."""
    renew: Callable[[RequiredVotes], Awaitable[None]]
    """Keeps the list valid if its task cannot have ended, because that took the own vote."""
    store_serves: Callable[[], Awaitable[bool]]
    leaderless: Callable[[], Awaitable[bool]]
    """Whether no node leads, read while the store serves; False if that cannot be found out."""
    voters: Callable[[], Awaitable[Sequence[str] | None]]
    """The voters that the node's own etcd knows, even without quorum; None if unknown."""
    node: Callable[[str], Awaitable[NodeState]]
    power_on: Callable[[str], Awaitable[None]]
    timers: Timers


async def keep_peers_on(means: LocalMeans) -> None:
    """Power on missing peers until canceled, once a fault has persisted for several observations.

    If the store has stopped, power on the nodes whose votes it lacks. If it serves and no node
    leads, power on the active that ran the task: it may be the only one with all the data.
    """
    clock = asyncio.get_running_loop().time
    served = led = clock()
    while True:
        required_votes = means.required_votes()
        serves = required_votes is None or await means.store_serves()
        served = clock() if serves else served
        if required_votes and not serves:
            await means.renew(required_votes)
        if required_votes is None or not serves or not await means.leaderless():
            led = clock()
        if required_votes and clock() - served >= means.timers.stopped_store:
            await _power_on_lacking(means, required_votes, await means.voters())
            served = clock()
        elif required_votes and clock() - led >= means.timers.leaderless:
            await _power_on_lacking(means, _only_active(required_votes), None)
            led = clock()
        await asyncio.sleep(POLL_SECONDS)


def _only_active(required_votes: RequiredVotes) -> RequiredVotes:
    vms = {
        member: vm for member, vm in required_votes.nodes.items() if member == required_votes.active
    }
    return msgspec.structs.replace(required_votes, nodes=vms)


async def _power_on_lacking(
    means: LocalMeans, required_votes: RequiredVotes, voters: Sequence[str] | None
) -> None:
    try:
        off = await _powered_off(means, required_votes)
    except ApiError as error:
        _log.warning("cannot tell which VMs are powered on", reason=str(error))
        return
    vms = vms_to_power_on(required_votes, means.member, voters, off)
    await asyncio.gather(*(_power_on(means, vm) for vm in vms))


async def _powered_off(means: LocalMeans, required_votes: RequiredVotes) -> set[str]:
    """Return the required VMs that are off; one whose host does not respond is not."""
    vms = [vm for vm in required_votes.nodes.values() if vm]
    states = await asyncio.gather(*map(means.node, vms))
    return {vm for vm, state in zip(vms, states, strict=True) if state.power is Power.OFF}


async def _power_on(means: LocalMeans, vm: str) -> None:
    _log.warning("powering on a node that a task needs", vm=vm)
    try:
        await means.power_on(vm)
    except ApiError as error:
        _log.warning("cannot power on a node that the store needs", vm=vm, reason=str(error))


@dataclass(frozen=True)
class LocalNode:
    """This node, and its view of the store."""

    identity: Identity
    layout: Layout
    tls: NodeTls

    def required_votes(self) -> RequiredVotes | None:
        """Return the list on its disk; None if it is stale."""
        found = load_required_votes(self.layout)
        return found if found and is_fresh(found, dt.datetime.now(dt.UTC)) else None

    async def renew(self, required_votes: RequiredVotes) -> None:
        """Write the list with the current time, as long as no quorum is possible without this node.

        A node that was off for longer is not asked: its list is stale before it comes here. A list
        that no majority has confirmed for a day is left to expire.
        """
        now = dt.datetime.now(dt.UTC)
        if is_fresh(required_votes, now, RENEW_SECONDS):
            return
        if not needs_vote(self.identity.member, await self._own_voters()):
            return
        try:
            await asyncio.to_thread(renew_required_votes, self.layout, required_votes, now)
        except OSError as error:
            _log.warning("cannot renew the required votes", reason=str(error))

    async def store_serves(self) -> bool:
        """Return whether any member, its own or another, reports quorum."""
        places = known_endpoints(self.identity, self.layout)
        return any(await asyncio.gather(*(is_healthy(at, self.tls()) for at in places)))

    async def leaderless(self) -> bool:
        """Return whether the store reports that no node leads."""
        places = known_endpoints(self.identity, self.layout)
        try:
            async with Etcd(places, self.tls, account=NodeAccount(self.layout.root)) as store:
                return await store.get(keys.PATRONI_LEADER) is None
        except StoreError:
            return False

    async def voters(self) -> Sequence[str] | None:
        """Return the voters that its own etcd member knows, otherwise those of the local copy."""
        own = peer_url(self.identity)
        page = await ask(own, MEMBERS, self.tls(), PROBE_SECONDS)
        found = parse_voters(page or b"")
        if found is None and (kept := load_kept(self.layout, self.identity)):
            return [one.member for one in kept.members if not one.learner]
        return found

    async def _own_voters(self) -> Sequence[str] | None:
        """Return the voters that its own etcd member knows; None if it does not respond."""
        own = peer_url(self.identity)
        return parse_voters(await ask(own, MEMBERS, self.tls(), PROBE_SECONDS) or b"")


def parse_voters(body: bytes) -> list[str] | None:
    """Return the voters in an etcd's list of members for its peers; None if it is unreadable."""
    members = read_members(body) or ()
    return [member.name for member in members if not member.learner] or None


def local_means(identity: Identity, layout: Layout, infrastructure: Infrastructure) -> LocalMeans:
    """Return what the node with this layout can observe and do without the store."""
    node = LocalNode(identity, layout, NodeTls(layout))
    return LocalMeans(
        member=identity.member,
        required_votes=node.required_votes,
        renew=node.renew,
        store_serves=node.store_serves,
        leaderless=node.leaderless,
        voters=node.voters,
        node=infrastructure.node,
        power_on=infrastructure.power_on,
        timers=identity.timers,
    )


async def watch_peers(layout: Layout, identity: Identity, infrastructure: Infrastructure) -> None:
    """Keep the nodes that a task needs powered on, until canceled."""
    await keep_peers_on(local_means(identity, layout, infrastructure))


prepare(__name__)
