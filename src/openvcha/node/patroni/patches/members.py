"""Only voters of the store may be synchronous standbys or leaders.

A node that is replaced loses its vote first. If it was frozen meanwhile, it comes back with a
PostgreSQL that streams and a Patroni that registers it; it would keep its place in ``/sync`` or
take the leader key. So four of Patroni's methods learn the store's members: only voters are
candidates for the synchronous standby, only a voter takes the leader key, and the slot of a removed
node is dropped.

Any voter may announce any name, for itself or for another member. So a voter counts under a name
only if its peer address is the one that the sealed configuration has for that name. It then keeps
that name for as long as it votes, whatever is announced, and nobody gets it afterwards: its id
cannot be changed.
"""

import logging
import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from openvcha.node.etcd.endpoints import Addresses, ProvenNames, data_members
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.patroni.patches.rpc import ask, install_check
from openvcha.store import keys
from openvcha.store.etcd import wire
from openvcha.store.interface import Member

FRESH_SECONDS = 0.5
"""How old the list may be when a member is given a place in ``/sync``, or takes the leader key."""
STEADY_SECONDS = 5.0
"""How old it may be otherwise: then it only ends what a removed member still has. Each loop of an
idle leader would ask for nothing else."""
KEY_RANGE = "/kv/range"
MEMBER_LIST = "/cluster/member/list"
LISTS_WITH_QUORUM = (3, 5)
"""The cluster's version, which all its members have at least."""

_log = logging.getLogger(__name__)

Retain = Callable[[Any, Any, Any], list[str] | None]
State = Callable[[Any, Any], Any]
Lock = Callable[[Any], bool]
Known = Callable[[], Addresses | None]

REPLACES = {
    "patroni.dcs:AbstractDCS._build_retain_slots": "714c0ee9c20e16e7",
    "patroni.postgresql.sync:SyncHandler.current_state": "14d2c64b3960e67a",
    "patroni.ha:Ha.acquire_lock": "ae8926ad9d5929c4",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    names = ("patroni.dcs", "patroni.dcs.etcd3", "patroni.ha", "patroni.postgresql.sync")
    dcs, etcd3, ha, sync = (import_module(name) for name in names)
    install_check(etcd3.PatroniEtcd3Client)
    voters = Voters(partial(known_addresses, Layout(Path(sys.argv[1]).parent)))
    base, handler, slot = dcs.AbstractDCS, sync.SyncHandler, dcs.slot_name_from_member_name
    base._build_retain_slots = voters.retaining(base._build_retain_slots, slot)  # noqa: SLF001 - there is no other handle
    handler.current_state = voters.choosing(handler.current_state)
    ha.Ha.acquire_lock = voters.locking(ha.Ha.acquire_lock)


class Voters:
    """The voters of the store, as last read; None before the first successful read."""

    def __init__(self, known: Known, clock: Callable[[], float] = time.monotonic) -> None:
        """``known`` returns the addresses of members with data; None if they are unknown."""
        self._known = known
        self._clock = clock
        self._asked: float | None = None
        self._store: Any = None
        self._proven = ProvenNames()
        self._doubted: frozenset[str] = frozenset()
        self.names: frozenset[str] | None = None

    def ask(self, dcs: Any, seconds: float = FRESH_SECONDS) -> None:
        """Read the voters, unless the last result is younger; keep the last result on failure.

        etcd lists members from memory: before 3.5 always, from 3.5 on unless a quorum read is
        requested. Before 3.5, a member that was isolated or frozen learns of a removal only through
        a read that needs quorum, so this does one first.
        """
        self._store = dcs
        if self._asked is not None and self._clock() - self._asked < seconds:
            return
        try:
            names = self._names(wire.members(_list_members(dcs._client)))  # noqa: SLF001 - as above
        except Exception as error:  # noqa: BLE001 - includes a malformed reply
            _log.warning("cannot list the members of the store: %s", error)
            return
        self._asked, self.names = self._clock(), names

    def _names(self, members: Collection[Member]) -> frozenset[str]:
        """Return the names of the voters that hold data.

        While the addresses are unknown, announced names count: otherwise a node without its files
        would dismiss a healthy standby, or not lead.
        """
        addresses, voters = self._known(), voters_of(members)
        # A learner keeps no name: it has no reliable data yet.
        full = [one for one in members if not one.learner]
        proven = self._proven.update(full, addresses or {})
        others = frozenset(one.name for one in voters if one.id not in proven)
        if addresses is None:
            return others.union(proven.values())
        self._warn(others.intersection(addresses))
        return frozenset(proven.values())

    def _warn(self, doubted: frozenset[str]) -> None:
        for name in sorted(doubted - self._doubted):
            _log.warning("ignoring a member of the store named %s at another address", name)
        self._doubted = doubted

    def retaining(self, original: Retain, slot_of: Callable[[str], str]) -> Retain:
        """Keep only the slots of voters; the leader has just written, so the store responds."""

        def build(self_: Any, cluster: Any, slots: Any) -> list[str] | None:
            self.ask(self_, STEADY_SECONDS)
            kept = original(self_, cluster, slots)
            if self.names is None or not kept:
                return kept
            theirs = {slot_of(name) for name in self.names}
            for gone in set(kept) - theirs:
                _log.info("not keeping the slot %s of a removed node", gone)
                self_._last_retain_slots.pop(gone, None)  # noqa: SLF001 - as above
            return [name for name in kept if name in theirs] or None

        return build

    def choosing(self, original: State) -> State:
        """Restrict synchronous standbys to voters, if the voters are known.

        A standby that ``/sync`` does not name yet must be a voter by a fresh list.
        """

        def current_state(self_: Any, cluster: Any) -> Any:
            state, asked = original(self_, self._among(cluster)), self._asked
            if not _new_standbys(state, cluster) or self._store is None:
                return state
            self.ask(self._store)
            return state if self._asked == asked else original(self_, self._among(cluster))

        return current_state

    def _among(self, cluster: Any) -> Any:
        """Return Patroni's cluster with only the voters as members, if they are known."""
        names = self.names
        if names is None:
            return cluster
        return _with_members(cluster, [one for one in cluster.members if one.name in names])

    def locking(self, original: Lock) -> Lock:
        """Restrict the leader key to voters."""

        def acquire_lock(self_: Any) -> bool:
            self.ask(self_.dcs)
            own = self_.state_handler.name
            if self.names is None or own in self.names:
                return original(self_)
            _log.warning("%s is no longer a member of the cluster; refusing the leader key", own)
            self_.set_is_leader(False)
            return False

        return acquire_lock


def _list_members(client: Any) -> dict[str, Any]:
    """Return etcd's list of members, confirmed by a quorum. Raises what Patroni's client raises."""
    if client._cluster_version >= LISTS_WITH_QUORUM:  # noqa: SLF001 - as above
        return ask(client, MEMBER_LIST, {"linearizable": True})
    # An older etcd accepts the field and ignores it.
    ask(client, KEY_RANGE, {"key": wire.text(keys.ROOT[:1]), "count_only": True})
    return ask(client, MEMBER_LIST, {})


def _new_standbys(state: Any, cluster: Any) -> bool:
    """Return whether Patroni has chosen a standby that ``/sync`` does not name."""
    named = {name.casefold() for name in cluster.sync.voters}
    return any(name.casefold() not in named for name in state.active)


def _with_members(cluster: Any, members: list[Any]) -> Any:
    """Return Patroni's cluster with other members; its class has no working _replace."""
    fields = {name: getattr(cluster, name) for name in cluster._fields}
    return type(cluster)(**{**fields, "members": members})


def voters_of(members: Collection[Member]) -> list[Member]:
    """Return the members that have started and vote."""
    return [one for one in members if one.name and not one.learner]


def known_addresses(layout: Layout) -> Addresses | None:
    """Return the addresses of members with data in the node's files; None if they are unknown."""
    try:
        return data_members(load_identity(layout.root), layout)
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("cannot read the members' addresses: %s", error)
        return None
