"""Powers on the nodes that a running task needs, when the store has stopped or nobody leads.

The tasks themselves live in the store, and wait for it. So this looks only at the node's own disk,
at its own member of the store, and at the infrastructure. It runs on every node: any of them may be
the one that is left. When the task has ended, a duty forgets the list: see
node/background/task_votes.py.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from openvcha.api.errors import ApiError
from openvcha.api.prepared import prepare
from openvcha.api.structures import VmPowerState
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Inventory
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import answers, known_endpoints, peer_url
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.local_records.task_votes import Relied, is_fresh, lacking, load_relied
from openvcha.node.security.tls import NodeTls
from openvcha.node.system.http import ask
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.structlog_light import structlog

LOOK_SECONDS = 1.0
STOPPED_SECONDS = 5.0
"""Longer than an election in the store, shorter than a client waits."""
LEADERLESS_SECONDS = 40.0
"""Longer than the right to lead outlives who held it (20 s, after an election 25 s)."""
PROBE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Means:
    """What a node knows and can do without the store. ``member`` is its own name."""

    member: str
    relied: Callable[[], Relied | None]
    """The list on the own disk, unless it is too old to count."""
    store_serves: Callable[[], Awaitable[bool]]
    leaderless: Callable[[], Awaitable[bool]]
    """Asked while the store serves: whether nobody leads. What cannot be known is False."""
    voters: Callable[[], Awaitable[Sequence[str] | None]]
    """The members as the own etcd knows them, without a majority; None is unknown."""
    inventory: Callable[[], Awaitable[Inventory]]
    power_on: Callable[[str], Awaitable[None]]


async def keep_peers_on(means: Means) -> None:
    """Look until canceled. What counts has lasted for some looks in a row.

    Where the store has stopped, those are powered on whose votes it lacks; where it serves and
    nobody leads, the active that carries the task: only it may have all the data.
    """
    clock = asyncio.get_running_loop().time
    served = led = clock()
    while True:
        relied = means.relied()
        serves = relied is None or await means.store_serves()
        served = clock() if serves else served
        if relied is None or not serves or not await means.leaderless():
            led = clock()
        if relied and clock() - served >= STOPPED_SECONDS:
            await _act(means, relied, await means.voters())
            served = clock()
        elif relied and clock() - led >= LEADERLESS_SECONDS:
            await _act(means, _active_of(relied), None)
            led = clock()
        await asyncio.sleep(LOOK_SECONDS)


def _active_of(relied: Relied) -> Relied:
    vms = {member: vm for member, vm in relied.nodes.items() if member == relied.active}
    return msgspec.structs.replace(relied, nodes=vms)


async def _act(means: Means, relied: Relied, voters: Sequence[str] | None) -> None:
    try:
        inventory = await means.inventory()
    except ApiError as error:
        _log.warning("which nodes are powered on is unknown", reason=str(error))
        return
    off = {vm.id for vm in inventory.vms if vm.power_state is VmPowerState.POWERED_OFF}
    vms = lacking(relied, means.member, voters, off)
    await asyncio.gather(*(_power_on(means, vm) for vm in vms))


async def _power_on(means: Means, vm: str) -> None:
    _log.warning("powered on a node that a task needs", vm=vm)
    try:
        await means.power_on(vm)
    except ApiError as error:
        _log.warning("cannot power on a node that the store needs", vm=vm, reason=str(error))


@dataclass(frozen=True)
class Node:
    """The node with this directory, as it sees the store."""

    identity: Identity
    layout: Layout
    tls: NodeTls

    def relied(self) -> Relied | None:
        """Return the list on its disk, unless it is too old to count."""
        found = load_relied(self.layout)
        return found if found and is_fresh(found, dt.datetime.now(dt.UTC)) else None

    async def store_serves(self) -> bool:
        """Return whether any member says that it has a majority, the own one or another."""
        places = known_endpoints(self.identity, self.layout)
        return any(await asyncio.gather(*(answers(at, self.tls()) for at in places)))

    async def leaderless(self) -> bool:
        """Return whether the store says that nobody leads."""
        places = known_endpoints(self.identity, self.layout)
        try:
            async with Etcd(places, self.tls, account=NodeAccount(self.layout.root)) as store:
                return await store.get(keys.PATRONI_LEADER) is None
        except StoreError:
            return False

    async def voters(self) -> Sequence[str] | None:
        """Return the voters as the own etcd knows them, else as they were kept last."""
        own = peer_url(self.identity)
        said = await ask(own, "/members", self.tls(), PROBE_SECONDS)
        found = voters_in((said or b"").partition(b"\r\n\r\n")[2])
        if found is None and (kept := load_kept(self.layout, self.identity)):
            return [one.member for one in kept.members if not one.learner]
        return found


class _Listed(msgspec.Struct, frozen=True):
    name: str = ""
    learner: bool = msgspec.field(name="isLearner", default=False)


_MEMBERS = msgspec.json.Decoder(list[_Listed])


def voters_in(page: bytes) -> list[str] | None:
    """Read what an etcd tells its peers of the members; None when it cannot be read."""
    try:
        members = _MEMBERS.decode(page)
    except msgspec.DecodeError:
        return None
    return [member.name for member in members if not member.learner] or None


def means_of(identity: Identity, layout: Layout, infrastructure: Infrastructure) -> Means:
    """Return the means of a node with this directory."""
    node = Node(identity, layout, NodeTls(layout))
    return Means(
        member=identity.member,
        relied=node.relied,
        store_serves=node.store_serves,
        leaderless=node.leaderless,
        voters=node.voters,
        inventory=infrastructure.inventory,
        power_on=infrastructure.power_on,
    )


async def watch_peers(layout: Layout, identity: Identity, infrastructure: Infrastructure) -> None:
    """Keep on the nodes that a task needs, until canceled."""
    await keep_peers_on(means_of(identity, layout, infrastructure))


prepare(__name__)
