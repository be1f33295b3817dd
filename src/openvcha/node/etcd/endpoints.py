"""The endpoints of the store for a data node: only members that hold data.

A data node presents its account to them and trusts their replies. An attacker who has stolen a
witness can respond at its address. So a witness is never asked, which costs nothing: every majority
of three includes a data node. The cluster's configuration, which is sealed, says which nodes hold
data, and where. What members announce about themselves does not count, since each may write
anything there; it can only remove an endpoint.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import Identity, Kind
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.local_records.sealed_records import KeptRecords
from openvcha.store import keys
from openvcha.store.interface import Member
from openvcha.system.files.durable import write_durably
from openvcha.system.network.host_port import url

Addresses = Mapping[str, str]
"""HA addresses by member name."""


class _Address(msgspec.Struct, frozen=True):
    address: str


class _Ip(msgspec.Struct, frozen=True):
    ipv4: _Address | None = None
    ipv6: _Address | None = None


class _Node(msgspec.Struct, frozen=True):
    kind: Kind
    ha_ip: _Ip
    member: str = ""

    @property
    def address(self) -> str:
        """Return the HA address, without its prefix."""
        chosen = self.ha_ip.ipv4 or self.ha_ip.ipv6
        return chosen.address if chosen else ""


class _Configuration(msgspec.Struct, frozen=True):
    nodes: tuple[_Node, ...]
    planned: tuple[_Node, ...] = ()


@dataclass(frozen=True)
class MemberAddresses:
    """The addresses of members: those that hold data, and the witnesses."""

    data: Addresses
    witnesses: frozenset[str] = field(default_factory=frozenset)


_CONFIGURATION = msgspec.json.Decoder(_Configuration)
_ADDRESSES = msgspec.json.Decoder(dict[str, str])


def trusted_addresses(
    own: str, places: MemberAddresses, voters: Collection[str] | None
) -> tuple[str, ...]:
    """Return the HA addresses to ask, the node's ``own`` first.

    A member that is not in ``voters`` (names; None if unknown) was removed from the cluster.
    """
    others = [
        address
        for member, address in places.data.items()
        if (voters is None or member in voters) and address not in places.witnesses
    ]
    return tuple(dict.fromkeys([own, *others]))


def configured_addresses(record: bytes | None) -> MemberAddresses | None:
    """Return the addresses in the cluster's configuration; None if it is unreadable."""
    try:
        found = _CONFIGURATION.decode(record or b"")
    except msgspec.DecodeError:
        return None
    nodes = [node for node in (*found.nodes, *found.planned) if node.address]
    return MemberAddresses(
        {node.member: node.address for node in nodes if node.member and node.kind == "data"},
        frozenset(node.address for node in nodes if node.kind == "witness"),
    )


def data_members(identity: Identity, layout: Layout) -> Addresses | None:
    """Return the addresses of the members with data, as the node's own files have them.

    None is unknown: the local copy of the configuration is absent or unreadable.
    """
    places = configured_addresses(_kept_record(layout))
    if places is None:
        return None
    return {**places.data, **_registered(layout), identity.member: identity.ha_address}


def is_at(member: Member, address: str | None) -> bool:
    """Return whether a member's only peer address is this one. Any voter may write its name."""
    try:
        hosts = {_canonical(urlsplit(url).hostname or "") for url in member.peer_urls}
    except ValueError:
        return False
    return address is not None and hosts == {_canonical(address)}


class ProvenNames:
    """The names of members that their addresses prove. A member keeps its name while it is listed.

    Any voter may announce any name and address, for itself or for another member, but no id. So a
    name belongs to the first id that proved it, also once that member is removed: each member that
    is created gets a name of its own.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def update(self, members: Collection[Member], addresses: Addresses) -> Mapping[int, str]:
        """Return the proven names of the members in a list, by id. ``addresses`` is by name."""
        known = set(self._ids.values())
        for one in members:
            if one.id not in known and is_at(one, addresses.get(one.name)):
                self._ids.setdefault(one.name, one.id)
        listed = {one.id for one in members}
        return {number: name for name, number in self._ids.items() if number in listed}


def _canonical(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.casefold()


def data_endpoints(
    identity: Identity,
    layout: Layout,
    record: bytes | None = None,
    voters: Collection[str] | None = None,
) -> list[str]:
    """Return the client URLs that a data node asks, its own first.

    ``record`` is the cluster's configuration without its seal, ``voters`` are the names of the
    store's voters; both default to the node's local copy.
    """
    places = configured_addresses(record) or configured_addresses(_kept_record(layout))
    places = places or MemberAddresses(identity.data_nodes)
    made = MemberAddresses({**places.data, **_registered(layout)}, places.witnesses)
    voters = _kept_voters(identity, layout) if voters is None else voters
    addresses = trusted_addresses(identity.ha_address, made, voters)
    return [url(address, identity.ports.etcd_client) for address in addresses]


def register(layout: Layout, made: Addresses) -> None:
    """Record durably the data nodes that are being created; replace earlier ones.

    The configuration names a node only once it is ready, but it votes before that. Raises OSError.
    """
    if made != _registered(layout):
        write_durably(layout.registered, msgspec.json.encode(made))


def _registered(layout: Layout) -> Addresses:
    try:
        return _ADDRESSES.decode(layout.registered.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}


def _kept_record(layout: Layout) -> bytes | None:
    good = KeptRecords(layout, writes=False).load(keys.CLUSTER)
    return good.value if good else None


def _kept_voters(identity: Identity, layout: Layout) -> frozenset[str] | None:
    kept = load_kept(layout, identity)
    if kept is None:
        return None
    return frozenset(one.member for one in kept.members if one.member and not one.learner)


prepare(__name__)
