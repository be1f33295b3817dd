"""A node's last knowledge of its cluster, on its own disk, for when the cluster is unavailable.

`node.json` names only the node's initial peers, all of which may be replaced by redeploys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import Identity, Kind
from openvcha.node.layout import Layout
from openvcha.node.process.status import LocalRole
from openvcha.store.interface import Member
from openvcha.system.files.durable import write_durably
from openvcha.system.network.host_port import url


class KeptMember(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the store.

    ``member`` is its name there, empty until its first start; ``name`` is for people. ``kind`` and
    ``vm`` come from the cluster's configuration and are None and empty if it did not name the
    member. ``patroni_url`` is empty for a witness.
    """

    member: str
    peer_url: str
    client_url: str
    learner: bool = False
    name: str = ""
    kind: Kind | None = None
    vm: str = ""
    role: LocalRole = LocalRole.UNKNOWN
    patroni_url: str = ""

    @property
    def ha_address(self) -> str:
        """Return the bare HA address."""
        return urlsplit(self.peer_url).hostname or ""


class KeptCluster(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as a majority last confirmed it, at ``seen`` (ISO 8601), to the node ``own``.

    ``store_id`` (hexadecimal) and ``revision`` are etcd's. ``listed``: whether the node itself was
    still a member. ``leader``, ``in_sync`` and ``paused`` are as in the node's status; ``lsn``
    (bytes) and ``timeline`` are the position of its own PostgreSQL, and ``primary`` is whether that
    accepted writes: a leader that is still to be promoted does not. ``last_leader`` is the last
    other holder of the leader key, until ``last_led``. None is unknown.
    """

    own: str
    store_id: str
    revision: int
    seen: str
    listed: bool
    members: tuple[KeptMember, ...]
    leader: str | None = None
    in_sync: bool | None = None
    paused: bool | None = None
    timeline: int | None = None
    lsn: int | None = None
    primary: bool | None = None
    last_leader: str | None = None
    last_led: str | None = None

    @property
    def others(self) -> tuple[KeptMember, ...]:
        """Return the members other than the node itself."""
        return tuple(one for one in self.members if one.member != self.own)

    @property
    def role(self) -> LocalRole:
        """Return the node's last role in the cluster."""
        return next((one.role for one in self.members if one.member == self.own), LocalRole.UNKNOWN)


class ConfiguredNode(msgspec.Struct, frozen=True):
    """A node in the cluster's configuration, as far as it is kept."""

    member: str
    name: str
    kind: Kind
    vm: str


class _Configuration(msgspec.Struct, frozen=True):
    nodes: tuple[ConfiguredNode, ...]


@dataclass(frozen=True)
class MajorityView:
    """One observation of the store, confirmed by a majority.

    ``standbys`` is None if ``/sync`` is unreadable, ``paused`` if the configuration is.
    """

    members: tuple[Member, ...]
    leader: str | None
    standbys: frozenset[str] | None
    paused: bool | None = None
    timeline: int | None = None
    lsn: int | None = None
    primary: bool | None = None

    @property
    def outline(self) -> tuple[object, ...]:
        """Return all but the WAL position: the fields whose changes must be on disk at once."""
        known = (self.members, self.leader, self.standbys, self.paused)
        return (*known, self.timeline, self.primary)


_KEPT = msgspec.json.Decoder(KeptCluster)
_CONFIGURATION = msgspec.json.Decoder(_Configuration)


def load_kept(layout: Layout, identity: Identity) -> KeptCluster | None:
    """Read the local copy; None if it is unreadable or belongs to another incarnation."""
    try:
        found = _KEPT.decode(layout.kept.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.own == identity.member else None


def save_kept(layout: Layout, kept: KeptCluster) -> None:
    """Replace the local copy atomically and durably. Raises OSError."""
    write_durably(layout.kept, msgspec.json.encode(kept))


def configured_nodes(record: bytes | None) -> dict[str, ConfiguredNode] | None:
    """Return the nodes in the cluster's configuration; None if it is unreadable."""
    try:
        found = _CONFIGURATION.decode(record or b"")
    except msgspec.DecodeError:
        return None
    return {node.member: node for node in found.nodes}


def keep(
    identity: Identity,
    known: MajorityView,
    configured: Mapping[str, ConfiguredNode],
    **store: Any,
) -> KeptCluster:
    """Return the state to keep; ``store`` contains the fields that ``known`` lacks."""
    own = identity.member
    members = tuple(
        _member(identity, one, known, configured.get(one.name)) for one in known.members
    )
    data = identity.holds_data
    return KeptCluster(
        own=own,
        members=members,
        leader=known.leader,
        in_sync=in_sync(own, known.leader, known.standbys) if data else None,
        paused=known.paused,
        timeline=known.timeline,
        lsn=known.lsn,
        primary=known.primary,
        **store,
    )


def known_nodes(kept: KeptCluster | None) -> dict[str, ConfiguredNode]:
    """Return the nodes in the local copy, for when the configuration is unreadable."""
    return {
        one.member: ConfiguredNode(one.member, one.name, one.kind, one.vm)
        for one in (kept.members if kept else ())
        if one.kind is not None
    }


def _member(
    identity: Identity, one: Member, known: MajorityView, node: ConfiguredNode | None
) -> KeptMember:
    peer = next(iter(one.peer_urls), "")
    address = urlsplit(peer).hostname or ""
    kind = node.kind if node else None
    return KeptMember(
        member=one.name,
        peer_url=peer,
        client_url=next(iter(one.client_urls), url(address, identity.ports.etcd_client)),
        learner=one.learner,
        name=node.name if node else "",
        kind=kind,
        vm=node.vm if node else "",
        role=_role(one.name, known, kind),
        patroni_url="" if kind == "witness" else url(address, identity.ports.patroni),
    )


def _role(member: str, known: MajorityView, kind: Kind | None) -> LocalRole:
    if kind == "witness":
        return LocalRole.WITNESS
    if known.leader is None or not member:
        return LocalRole.UNKNOWN
    if known.leader == member:
        return LocalRole.ACTIVE
    data = kind == "data" or member in (known.standbys or ())
    return LocalRole.PASSIVE if data else LocalRole.UNKNOWN


def in_sync(member: str, leader: str | None, standbys: frozenset[str] | None) -> bool | None:
    """Return whether the cluster names a member as in sync; None if unknown."""
    if leader == member:
        return True
    return None if standbys is None else member in standbys


def forget_others(layout: Layout, identity: Identity) -> None:
    """Remove all members but the node itself from the local copy. Raises OSError."""
    kept = load_kept(layout, identity)
    if kept is not None:
        own = tuple(one for one in kept.members if one.member == identity.member)
        save_kept(layout, msgspec.structs.replace(kept, members=own))


prepare(__name__)
