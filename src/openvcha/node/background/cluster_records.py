"""What a node reads of its cluster all the time: a few records, and now and then the members.

The list of members is a request of its own. Only tasks change it, and a task leaves traces in the
records that are read anyway: so without traces an older list will do.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openvcha.node.identity import Identity
from openvcha.store import keys
from openvcha.store.errors import Compacted, StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import KeyValue, Member, Store
from openvcha.store.patroni.state import read_leader
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.system.repeating import repeat

LIST_SECONDS = 4.0
"""How old the list of members may become while there are no traces of a task."""
READ_KEYS = (keys.PATRONI_LEADER, keys.PATRONI_SYNC, keys.REQUIRED_VOTES)
"""Keys that every node may read; a witness has no access to the others."""
DATA_KEYS = (keys.PATRONI_CONFIG, keys.PATRONI_FAILOVER, keys.OPERATION)
RETRY_SECONDS = 1.0
TRACES = (keys.OPERATION, keys.REQUIRED_VOTES)
"""Records that exist while a task may change the members."""


@dataclass(frozen=True)
class ObservedMembers:
    """The members of the store, confirmed by a quorum in an observation that began at ``began``."""

    began: float
    members: tuple[Member, ...]


@dataclass(frozen=True)
class ClusterRecords:
    """Records at one revision, by key, and the members; the reading began at ``began``."""

    began: float
    values: Mapping[str, KeyValue]
    listed: ObservedMembers

    @property
    def leader(self) -> str | None:
        """Return the member that holds the leader key."""
        found = self.values.get(keys.PATRONI_LEADER)
        return read_leader(found.value) if found else None

    @property
    def suggest_change(self) -> bool:
        """Return whether a task may be changing the members."""
        return any(name in self.values for name in TRACES)

    def revision_of(self, key: str) -> int:
        """Return the revision of a record's last change; 0 if it does not exist."""
        found = self.values.get(key)
        return found.mod_revision if found else 0


class ClusterReader:
    """A reader of a node's cluster, which knows how old its list of members is."""

    def __init__(self, identity: Identity, store: Etcd | SealedEtcd) -> None:
        self._identity = identity
        self._store = store
        self._last: ClusterRecords | None = None

    async def read(self, now: float) -> ClusterRecords:
        """Read with a quorum. Raises StoreError."""
        last, self._last = self._last, None
        names = self._names(last)
        if last is None or self._is_due(last, now):
            values, members = await self._store.get_many_and_members(names)
            found = _records(now, names, values, ObservedMembers(now, tuple(members)))
        else:
            values = await self._store.get_many(names)
            found = _records(now, names, values, last.listed)
            if found.suggest_change or found.leader != last.leader:
                members = await self._store.members()
                found = _records(now, names, values, ObservedMembers(now, tuple(members)))
        self._last = found
        return found

    def _names(self, last: ClusterRecords | None) -> Sequence[str]:
        if not self._identity.holds_data:
            return READ_KEYS
        shown = dict.fromkeys((self._identity.member, last.leader if last else None))
        return (*READ_KEYS, *DATA_KEYS, *(keys.patroni_member(name) for name in shown if name))

    def _is_due(self, last: ClusterRecords, now: float) -> bool:
        listed = any(member.name == self._identity.member for member in last.listed.members)
        return last.suggest_change or not listed or now - last.listed.began >= LIST_SECONDS


async def announce_changes(store: Store, key: str, news: asyncio.Event) -> None:
    """Set ``news`` at each change of a key, until canceled; some changes may be missed."""

    async def watch() -> None:
        async with aclosing(store.watch(key)) as changes:
            async for _ in changes:
                news.set()

    await repeat(watch, RETRY_SECONDS, transient=(StoreError, Compacted))


def _records(
    began: float,
    names: Sequence[str],
    values: Sequence[KeyValue | None],
    listed: ObservedMembers,
) -> ClusterRecords:
    found = {name: kv for name, kv in zip(names, values, strict=True) if kv is not None}
    return ClusterRecords(began, found, listed)
