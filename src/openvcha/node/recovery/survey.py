"""The survey of every node that this one has ever known, before it becomes stand-alone."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit

from openvcha.api.foreign_text import shown_name
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import KeptCluster, load_kept
from openvcha.node.recovery.probe import ProbeReply, ReplyKind, probe
from openvcha.store import bounded_json
from openvcha.store.account import AccountSource
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.member_pages import (
    HEALTH,
    MEMBERS,
    MemberHealth,
    read_health,
    read_members,
)
from openvcha.store.http.client import TlsSource

PROBE_SECONDS = 2.0
ASK_SECONDS = 5.0
MAX_MEMBERS = 64
"""The maximum number of members taken from a reply: each of their addresses is queried."""
PUBLIC = "the holder of the public address"
Listed = Mapping[str, str]
"""The members that an etcd knows, even without quorum: names by peer URL."""


@dataclass(frozen=True)
class Place:
    """The address of a present, former or possible member; ``name`` is for people."""

    address: str
    name: str


@dataclass(frozen=True)
class PlaceReply:
    """The replies of a place: a description of each part that replied; empty if it is silent."""

    place: Place
    words: tuple[str, ...] = ()
    listed: Listed | None = None


@dataclass(frozen=True)
class Quorum:
    """A responding quorum: the names of its members, and etcd's id and revision."""

    members: frozenset[str]
    store_id: str
    revision: int


@dataclass(frozen=True)
class Survey:
    """All results. ``listed`` is the list of members of the node's own etcd, if it runs."""

    identity: Identity
    kept: KeptCluster | None
    listed: Listed | None
    quorum: Quorum | None
    said: tuple[PlaceReply, ...]


async def survey(identity: Identity, layout: Layout, tls: TlsSource, *, public: bool) -> Survey:
    """Ask all places at once, at etcd and Patroni; with ``public`` also at the API's address."""
    kept = load_kept(layout, identity)
    listed = await _listed(identity.ha_address, identity.ports.etcd_peer, tls)
    found = places(identity, kept, listed)
    asking = [_ask(identity, place, tls) for place in found]
    if public and identity.public_address:
        asking.append(_ask_api(identity, tls))
    # Do not present an account to a place found only in a reply: it may be an attacker's.
    endpoints, account = known_endpoints(identity, layout), NodeAccount(layout.root)
    quorum, said = await asyncio.gather(_quorum(endpoints, tls, account), asyncio.gather(*asking))
    return Survey(identity, kept, listed, quorum, tuple(said))


def places(
    identity: Identity, kept: KeptCluster | None, listed: Listed | None
) -> tuple[Place, ...]:
    """Return where other nodes may be, from the identity, the local copy and the node's etcd."""
    found: dict[str, str] = {}
    for name, peer in identity.etcd_initial_cluster.items():
        found[_host(peer)] = name
    for peer, name in (listed or {}).items():
        found[_host(peer)] = name or found.get(_host(peer), "")
    for member in kept.members if kept else ():
        found[member.ha_address] = member.name or member.member or found.get(member.ha_address, "")
    return tuple(
        Place(address, shown_name(name or address))
        for address, name in found.items()
        if address and address != identity.ha_address
    )


async def _ask(identity: Identity, place: Place, tls: TlsSource) -> PlaceReply:
    ports = identity.ports
    health, peers, patroni = await asyncio.gather(
        _probe(place, ports.etcd_client, HEALTH, tls),
        _probe(place, ports.etcd_peer, MEMBERS, tls),
        _probe(place, ports.patroni, "/patroni", tls),
    )
    words = (*describe_etcd(health, peers), *describe_patroni(patroni))
    return PlaceReply(place, words, listed(peers))


async def _ask_api(identity: Identity, tls: TlsSource) -> PlaceReply:
    place = Place(identity.public_address, PUBLIC)
    found = await _probe(place, identity.ports.api, "/", tls)
    return PlaceReply(place, () if found.manner is ReplyKind.SILENT else ("its API",))


async def _probe(place: Place, port: int, path: str, tls: TlsSource) -> ProbeReply:
    return await probe(place.address, port, path, tls(), PROBE_SECONDS)


def describe_etcd(health: ProbeReply, peers: ProbeReply) -> tuple[str, ...]:
    """Return the state of an etcd, from its replies to clients and to peers.

    It replies to peers, but not to clients, while it waits for its first quorum.
    """
    if read_health(health.body) is MemberHealth.HEALTHY:
        return ("etcd with a quorum",)
    if health.manner is ReplyKind.ANSWERS:
        return ("etcd without a quorum",)
    if peers.manner is ReplyKind.ANSWERS:
        return ("etcd, waiting for a quorum",)
    return _without_answer("etcd", health, peers)


def describe_patroni(found: ProbeReply) -> tuple[str, ...]:
    """Return what a Patroni reports of its database."""
    if found.manner is not ReplyKind.ANSWERS:
        return _without_answer("Patroni", found)
    fields = bounded_json.json_object(found.body)
    if fields is None:
        return ("Patroni",)
    return (f"Patroni: {shown_name(fields.get('role'))}, {shown_name(fields.get('state'))}",)


def _without_answer(part: str, *knocks: ProbeReply) -> tuple[str, ...]:
    manners = {found.manner for found in knocks}
    if ReplyKind.REFUSES in manners:
        return (f"{part}, but one side does not trust the other's certificate",)
    return (
        (f"{part}, which accepts connections but does not respond",)
        if ReplyKind.MUTE in manners
        else ()
    )


async def _listed(address: str, port: int, tls: TlsSource) -> Listed | None:
    return listed(await probe(address, port, MEMBERS, tls(), PROBE_SECONDS))


def listed(found: ProbeReply) -> Listed | None:
    """Return the members in an etcd's list for its peers, bounded; None if unreadable."""
    members = read_members(found.body)
    if members is None:
        return None
    pairs = ((url, shown_name(one.name)) for one in members for url in one.peer_urls or ())
    return dict(islice(pairs, MAX_MEMBERS))


async def _quorum(endpoints: list[str], tls: TlsSource, account: AccountSource) -> Quorum | None:
    try:
        async with Etcd(endpoints, tls, timeout=ASK_SECONDS, account=account) as store:
            members = await store.members()
            status = await store.status(store.endpoints[0])
    except StoreError:
        return None
    names = frozenset(member.name for member in members)
    return Quorum(names, f"{status.cluster_id:x}", status.revision)


def _host(peer: str) -> str:
    try:
        return urlsplit(peer).hostname or ""
    except ValueError:
        return ""  # not a URL
