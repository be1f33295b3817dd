"""Looking: collects an Observation from etcd and from every node's Patroni, all at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from openvcha.cluster import mode_settings
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, cluster_record
from openvcha.cluster.interface import ClusterStore, PatroniAccess
from openvcha.cluster.mode_settings import Looked
from openvcha.cluster.node_reports import Hearing
from openvcha.cluster.observation import Lag, NodeObservation, Observation
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.cluster.silence import Held
from openvcha.cluster.store_space import Space
from openvcha.store import keys
from openvcha.store.interface import KeyValue, Member
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState, Unreadable, read_leader, read_sync
from openvcha.store.records import decode
from openvcha.store.single_flight import Shared
from openvcha.system.host_port import url

PROBE_SECONDS = 1.0
READ = (keys.CLUSTER, keys.PATRONI_LEADER, keys.PATRONI_SYNC, keys.PATRONI_CONFIG)
GLANCE_SECONDS = 0.5
"""Far less than it takes until a node that has just fallen silent counts as lost."""
Lags = Callable[[], Awaitable[tuple[Lag, ...]]]
Off = Callable[[NodeConfig], Awaitable[bool]]


@dataclass(frozen=True)
class _Kept:
    """A look, when it began (monotonic seconds), and the store's mark before it did."""

    seen: Observation
    begun: float
    mark: int | None


class Observer:
    """Looks at the cluster as one node sees it."""

    def __init__(
        self,
        store: ClusterStore,
        client: PatroniAccess,
        lags: Lags | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        failing: Callable[[], Mapping[str, str]] = dict,
        off: Off | None = None,
        held: Held | None = None,
        refused: Callable[[], tuple[str, ...]] = tuple,
        space: Callable[[Sequence[Member]], Awaitable[Space | None]] | None = None,
        mark: Callable[[], Awaitable[int | None]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``lags`` asks the active how far its standbys are behind; without it that is unknown.
        ``failing`` says which background work of this service fails now, and why.

        ``off`` tells whether a node that does not answer is off for sure: then nothing is waited
        for.

        ``space`` looks at how full the store of these members is; without it that is unknown.

        ``mark`` is another number after each change in the store that a look would find; without
        it no look is used twice.

        ``refused`` names the records that failed their check. What the nodes tell of themselves is
        known while somebody runs ``hearing``.
        """
        self._store = store
        self._patroni = client
        self.hearing = Hearing(store)
        self._lags = lags or _unknown
        self._clock = clock
        self._failing = failing
        self._off = off or _nobody_knows
        self._held = held or Held()
        self._refused = refused
        self._space = space or _not_asked
        self._mark = mark or _not_marked
        self._monotonic = monotonic
        self._kept: _Kept | None = None
        self._shared = Shared(self._look)
        self._unreadable: tuple[str, ...] = ()
        self._forged: tuple[str, ...] = ()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Return the keys that were noted as unreadable."""
        return self._unreadable

    @property
    def forged(self) -> tuple[str, ...]:
        """Return the records that failed their check where this program read them."""
        return self._refused()

    def note_forged(self, keys_: tuple[str, ...]) -> None:
        """Take note of the records that failed their check where another program read them."""
        self._forged = keys_

    def note_unreadable(self, keys_: tuple[str, ...]) -> None:
        """Take note of the keys whose values cannot be read."""
        self._unreadable = keys_

    async def config(self) -> ClusterConfig:
        """Read the configuration. Raises LookupError before the first node has written it."""
        found = await cluster_record(self._store).get()
        if found is None:
            raise LookupError("the cluster has no configuration yet")
        return found

    async def observe(self, running: tuple[str, str] | None = None) -> Observation:
        """Look at everything. Raises StoreUnavailable when there is no quorum.

        Who asks while others do shares one look with them, which begins after all of them asked.
        """
        return replace(await self._shared(), running=running)

    async def glance(self, running: tuple[str, str] | None = None) -> Observation:
        """Return the last look, if it began just now and the store has not changed; else observe.

        For who only shows it. Raises StoreUnavailable when there is no quorum.
        """
        kept = self._kept
        if kept is None or self._monotonic() - kept.begun >= GLANCE_SECONDS:
            return await self.observe(running)
        mark = await self._mark()
        if mark is None or mark != kept.mark:
            return await self.observe(running)
        return replace(kept.seen, running=running)

    async def _look(self) -> Observation:
        begun, mark = self._monotonic(), await self._mark()
        seen = await self._see()
        self._kept = _Kept(seen, begun, mark)
        return seen

    async def _see(self) -> Observation:
        begun = asyncio.get_running_loop().time()
        (config, leader, sync, dynamic, members), lags = await asyncio.gather(
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
        )
        passive = seen.passive.config.member if seen.passive else None
        # Where nobody can say who is in sync, nobody has been seen without being it.
        in_sync = seen.passive_in_sync or sync is None
        unready = self._held.unready(passive, in_sync=in_sync)
        return replace(seen, unready_seconds=unready)

    async def _records(
        self,
    ) -> tuple[ClusterConfig, str | None, SyncState | None, Looked, list[Member]]:
        """Read what decides, all as it was at one moment, and who the members are then."""
        (config, leader, sync, dynamic), members = await self._store.several_and_members(READ)
        return (
            # What is missing here may be forged instead: read alone, it says so.
            decode(config, ClusterConfig) if config else await self.config(),
            read_leader(leader.value) if leader else None,
            _sync(sync),
            mode_settings.looked(dynamic) if dynamic else await mode_settings.look(self._store),
            members,
        )

    async def _node(
        self, config: ClusterConfig, node: NodeConfig, voter: Member | None, since: float
    ) -> NodeObservation:
        """Look at one node, and not at another one that has come to its address.

        Its store has answered if it is the one that this look has asked, ``since`` it began.
        """
        answers, state = await asyncio.gather(
            self._store.healthy(endpoint(config, node), PROBE_SECONDS, since=since),
            self._patroni_of(node),
        )
        heard = self.hearing.of(node.member)
        # Whoever has no vote is not this node: its successor answers there before it is named.
        own = voter is not None
        raw = NodeObservation(node, own, own and answers, state, heard)
        off = self._held.doubtful(raw) and await self._off(node)
        return self._held.settle(raw, off=off)

    async def _patroni_of(self, node: NodeConfig) -> PatroniNode | None:
        if node.kind is not NodeKind.DATA:
            return None
        try:
            state = await self._patroni.node(node.ha_address)
        except PatroniUnreachable:
            return None
        return state if state.member in {None, node.member} else None


def _sync(found: KeyValue | None) -> SyncState | None:
    """Read who may take over; None when that cannot be read, and then nobody is known to."""
    state = read_sync(found.value if found else None)
    return None if isinstance(state, Unreadable) else state


async def _unknown() -> tuple[Lag, ...]:
    return ()


async def _not_marked() -> int | None:
    return None


async def _not_asked(members: Sequence[Member]) -> Space | None:
    del members
    return None


async def _nobody_knows(node: NodeConfig) -> bool:
    del node
    return False


def endpoint(config: ClusterConfig, node: NodeConfig) -> str:
    """Return the URL of a node's etcd for clients."""
    return url(node.ha_address, config.ports.etcd_client)
