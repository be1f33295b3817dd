"""The observer: it collects an Observation from etcd and from every node's Patroni at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from openvcha.cluster import mode_settings
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, read_config
from openvcha.cluster.interface import ClusterStore, PatroniAccess
from openvcha.cluster.mode_settings import DynamicSettings
from openvcha.cluster.observing.node_reports import NodeReports
from openvcha.cluster.observing.observation import Lag, NodeObservation, Observation
from openvcha.cluster.observing.silence_detector import SilenceDetector
from openvcha.cluster.observing.store_space import StoreSpace
from openvcha.cluster.owed_deletions import OwedDeletion, OwedDeletions
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.store import keys
from openvcha.store.interface import KeyValue, Member
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState, Unreadable, read_leader, read_sync
from openvcha.store.records import decode, readable
from openvcha.system.network.host_port import url
from openvcha.system.single_flight import SingleFlight

PROBE_SECONDS = 1.0
OBSERVED_KEYS = (
    keys.CLUSTER,
    keys.PATRONI_LEADER,
    keys.PATRONI_SYNC,
    keys.PATRONI_CONFIG,
    keys.OWED,
)
CACHE_SECONDS = 0.5
"""Far shorter than the silence after which a node counts as lost."""
LagSource = Callable[[], Awaitable[tuple[Lag, ...]]]
PowerCheck = Callable[[NodeConfig], Awaitable[bool]]


@dataclass(frozen=True)
class _CachedObservation:
    """An observation, when it began (monotonic seconds), and the change number before that."""

    seen: Observation
    begun: float
    change_number: int | None


class Observer:
    """Observes the cluster as one node sees it."""

    def __init__(
        self,
        store: ClusterStore,
        client: PatroniAccess,
        lags: LagSource | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        failing: Callable[[], Mapping[str, str]] = dict,
        off: PowerCheck | None = None,
        detector: SilenceDetector | None = None,
        refused: Callable[[], tuple[str, ...]] = tuple,
        space: Callable[[Sequence[Member]], Awaitable[StoreSpace | None]] | None = None,
        change_number: Callable[[], Awaitable[int | None]] | None = None,
        lag_limit: float,
        node_leader_ttl: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an observer. Without a source, what it would provide is unknown.

        ``lags`` asks the active how far its standbys are behind. ``failing`` returns the background
        work of this service that is failing, and why. ``off`` returns whether a silent node is
        certainly off, so that its silence need not be waited for. ``space`` measures how full the
        store of these members is. ``change_number`` returns a number that differs after each
        relevant change in the store; without it no observation is reused. ``refused`` returns the
        records that failed their check. ``lag_limit``: from how many seconds on the passive counts
        as lagging. ``node_leader_ttl``: the leader key's ttl by the node's own settings. Node
        reports are known while ``node_reports`` runs.
        """
        self._store = store
        self._patroni = client
        self.node_reports = NodeReports(store)
        self._lags = lags or _unknown
        self._clock = clock
        self._failing = failing
        self._off = off or _nobody_knows
        self._detector = detector or SilenceDetector()
        self._refused = refused
        self._space = space or _not_asked
        self._change_number = change_number or _not_marked
        self._lag_limit = lag_limit
        self._node_leader_ttl = node_leader_ttl
        self._monotonic = monotonic
        self._kept: _CachedObservation | None = None
        self._shared = SingleFlight(self._look)
        self._unreadable: tuple[str, ...] = ()
        self._forged: tuple[str, ...] = ()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Return the keys that were noted as unreadable."""
        return self._unreadable

    @property
    def forged(self) -> tuple[str, ...]:
        """Return the records that failed their check in this program."""
        return self._refused()

    def note_forged(self, keys_: tuple[str, ...]) -> None:
        """Note the records that failed their check in another program."""
        self._forged = keys_

    def note_unreadable(self, keys_: tuple[str, ...]) -> None:
        """Note the keys whose values cannot be read."""
        self._unreadable = keys_

    async def config(self) -> ClusterConfig:
        """Read the configuration. Raises LookupError before the first node has written it."""
        return await read_config(self._store)

    async def observe(self, running: tuple[str, str] | None = None) -> Observation:
        """Observe the cluster. Raises StoreUnavailable when there is no quorum.

        Concurrent callers share one observation, which begins after the last of them has called.
        """
        return replace(await self._shared(), running=running)

    async def observe_cached(self, running: tuple[str, str] | None = None) -> Observation:
        """Return the last observation if it is recent and the store is unchanged; else observe.

        For display only. Raises StoreUnavailable when there is no quorum.
        """
        kept = self._kept
        if kept is None or self._monotonic() - kept.begun >= CACHE_SECONDS:
            return await self.observe(running)
        change_number = await self._change_number()
        if change_number is None or change_number != kept.change_number:
            return await self.observe(running)
        return replace(kept.seen, running=running)

    async def _look(self) -> Observation:
        begun, change_number = self._monotonic(), await self._change_number()
        seen = await self._see()
        self._kept = _CachedObservation(seen, begun, change_number)
        return seen

    async def _see(self) -> Observation:
        begun = asyncio.get_running_loop().time()
        (config, leader, sync, dynamic, owed, members), lags = await asyncio.gather(
            self._records(), self._lags()
        )
        voters = {member.name: member for member in members if not member.learner}
        nodes, space = await asyncio.gather(
            asyncio.gather(
                *(self._node(config, node, voters.get(node.member), begun) for node in config.nodes)
            ),
            self._space(members),
        )
        seen = Observation(
            config,
            leader,
            sync or SyncState(None, frozenset()),
            tuple(nodes),
            None,
            lags,
            self._clock(),
            dynamic.on,
            dynamic.refused,
            unfit=dynamic.unfit,
            unreadable=tuple(sorted({*self._unreadable, *([] if sync else [keys.PATRONI_SYNC])})),
            failing=self._failing(),
            forged=tuple(sorted({*self._refused(), *self._forged})),
            space=space,
            leader_ttl=dynamic.leader_ttl,
            node_leader_ttl=self._node_leader_ttl,
            lag_limit=self._lag_limit,
            owed=owed,
        )
        passive = seen.passive.config.member if seen.passive else None
        # While /sync is unreadable, the passive does not count as out of sync.
        in_sync = seen.passive_in_sync or sync is None
        unready = self._detector.unready_seconds(passive, in_sync=in_sync)
        return replace(seen, unready_seconds=unready)

    async def _records(
        self,
    ) -> tuple[
        ClusterConfig,
        str | None,
        SyncState | None,
        DynamicSettings,
        tuple[OwedDeletion, ...],
        list[Member],
    ]:
        """Read the records that decisions depend on, all at one revision."""
        (config, leader, sync, dynamic, owed), members = await self._store.get_many_and_members(
            OBSERVED_KEYS
        )
        return (
            # A read of several keys omits a forged record; a read of that key raises the reason.
            decode(config, ClusterConfig) if config else await self.config(),
            read_leader(leader.value) if leader else None,
            _sync(sync),
            mode_settings.parse(dynamic) if dynamic else await mode_settings.read(self._store),
            _owed(owed),
            members,
        )

    async def _node(
        self, config: ClusterConfig, node: NodeConfig, voter: Member | None, since: float
    ) -> NodeObservation:
        """Observe one node, and no other node that now has its address.

        An etcd that responded to a request of this observation, which began at ``since``, is not
        probed again.
        """
        answers, state = await asyncio.gather(
            self._store.healthy(endpoint(config, node), PROBE_SECONDS, since=since),
            self._patroni_of(node),
        )
        report = self.node_reports.report_of(node.member)
        # A node without a vote is not this one: its successor may respond at the same address.
        own = voter is not None
        raw = NodeObservation(node, own, own and answers, state, report)
        off = self._detector.is_doubtful(raw) and await self._off(node)
        return self._detector.debounce(raw, off=off)

    async def _patroni_of(self, node: NodeConfig) -> PatroniNode | None:
        if node.kind is not NodeKind.DATA:
            return None
        try:
            state = await self._patroni.node(node.ha_address)
        except PatroniUnreachable:
            return None
        return state if state.member in {None, node.member} else None


def _sync(found: KeyValue | None) -> SyncState | None:
    """Parse ``/sync``; None when it cannot be read: then no node is known to be in sync."""
    state = read_sync(found.value if found else None)
    return None if isinstance(state, Unreadable) else state


def _owed(found: KeyValue | None) -> tuple[OwedDeletion, ...]:
    """Parse the owed deletions; none if they cannot be read, which is a warning of its own."""
    known = readable([found] if found else [], OwedDeletions)
    return next((each.items for _, each in known), ())


async def _unknown() -> tuple[Lag, ...]:
    return ()


async def _not_marked() -> int | None:
    return None


async def _not_asked(members: Sequence[Member]) -> StoreSpace | None:
    del members
    return None


async def _nobody_knows(node: NodeConfig) -> bool:
    del node
    return False


def endpoint(config: ClusterConfig, node: NodeConfig) -> str:
    """Return the client URL of a node's etcd."""
    return url(node.ha_address, config.ports.etcd_client)
