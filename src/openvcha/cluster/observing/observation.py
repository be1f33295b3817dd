"""The observed state of the cluster, as one node sees it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind
from openvcha.cluster.observing.store_space import StoreSpace
from openvcha.cluster.owed_deletions import OwedDeletion
from openvcha.store.address_reports import AddressState
from openvcha.store.node_facts import NodeFacts
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState


@dataclass(frozen=True)
class NodeReport:
    """The last report of a node; unset ``facts`` are unknown, which is no fault by itself.

    ``clock_offset``: seconds by which its clock is ahead of the observer's; None: unknown.
    ``silent``: no report has arrived for longer than a node takes to start. ``address``: whether it
    holds the public address as the node that leads, or why it could not hold it.
    """

    facts: NodeFacts | None = None
    clock_offset: float | None = None
    silent: bool = False
    address: AddressState | None = None


@dataclass(frozen=True)
class NodeObservation:
    """One node: whether it is a voter in etcd, and its Patroni (None: no response).

    ``unsure``: it has just missed a probe, which proves nothing yet; the rest is its last state.
    """

    config: NodeConfig
    voter: bool
    etcd_answers: bool
    patroni: PatroniNode | None
    report: NodeReport = NodeReport()
    unsure: bool = False

    @property
    def up(self) -> bool:
        """Return whether etcd or Patroni of the node responds."""
        return self.etcd_answers or self.patroni is not None

    @property
    def unknown(self) -> bool:
        """Return whether its etcd or Patroni has neither responded nor been silent long enough."""
        silent = self.patroni is None and self.config.kind is NodeKind.DATA
        return self.unsure and (silent or not self.etcd_answers)


@dataclass(frozen=True)
class Lag:
    """How far the replay of one standby is behind the primary."""

    member: str
    bytes_behind: int
    seconds_behind: float


@dataclass(frozen=True)
class Observation:
    """A snapshot of the cluster; each part is as old as the call that fetched it."""

    config: ClusterConfig
    leader: str | None
    sync: SyncState
    nodes: tuple[NodeObservation, ...]
    running: tuple[str, str] | None
    """The running operation and its task id."""
    lags: tuple[Lag, ...] = ()
    """The lag of each streaming standby; empty when the active did not respond."""
    time: datetime | None = None
    """The time of the observation."""
    settings: frozenset[str] = frozenset()
    """The settings of a mode that are on in Patroni, also during a change of the mode."""
    refused: tuple[str, ...] = ()
    """Settings in Patroni's dynamic configuration that no Patroni accepts."""
    unfit: Mapping[str, object] = field(default_factory=dict)
    """Other settings of Patroni with a wrong value, each with the value that a cluster needs."""
    unreadable: tuple[str, ...] = ()
    """Keys in the store whose values cannot be read; their content counts as unknown."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """Background work of the observer's service that is failing, and why."""
    unready_seconds: float = math.inf
    """For how long the passive has been out of sync without interruption."""
    forged: tuple[str, ...] = ()
    """The records that failed their check within the last minute."""
    space: StoreSpace | None = None
    """How full the store is; None: unknown."""
    leader_ttl: int | None = None
    """For how many seconds the leader key outlives its holder, by Patroni's settings."""
    node_leader_ttl: int | None = None
    """The same, by ``node.json`` of the observer's node; the nodes' waits follow from it."""
    owed: tuple[OwedDeletion, ...] = ()
    """VMs of removed nodes that could not be deleted yet."""
    lag_limit: float = math.inf
    """From how many seconds on the passive counts as lagging."""

    def node(self, member: str | None) -> NodeObservation | None:
        """Return the observation of one member; None when it is not a node."""
        return next((n for n in self.nodes if n.config.member == member), None)

    @property
    def complete(self) -> bool:
        """Return whether the state of each node is known; being silent is a known state."""
        return not any(node.unknown for node in self.nodes)

    @property
    def certain(self) -> bool:
        """Return whether no node has just missed a probe; silence that has lasted is certain."""
        return not any(node.unsure for node in self.nodes)

    @property
    def active(self) -> NodeObservation | None:
        """Return the node that holds the leader key."""
        return self.node(self.leader)

    @property
    def unknown_leader(self) -> str | None:
        """Return the member that holds the leader key if it is no node of this cluster."""
        return self.leader if self.active is None else None

    @property
    def sync_candidate(self) -> NodeObservation | None:
        """Return the data node that responds and that ``/sync`` names beside the leader."""
        names = self.sync.standbys if self.sync.leader == self.leader else frozenset()
        able = (n for n in self.nodes if n.config.kind is NodeKind.DATA and n.patroni is not None)
        return next((n for n in able if n.config.member in names), None)

    @property
    def passive(self) -> NodeObservation | None:
        """Return the data node that does not hold the leader key."""
        return next(
            (
                n
                for n in self.nodes
                if n.config.kind is NodeKind.DATA and n.config.member != self.leader
            ),
            None,
        )

    @property
    def witness(self) -> NodeObservation | None:
        """Return the witness."""
        return next((n for n in self.nodes if n.config.kind is NodeKind.WITNESS), None)

    def lag(self, member: str) -> Lag | None:
        """Return how far a standby is behind; None: unknown."""
        return next((lag for lag in self.lags if lag.member == member), None)

    @property
    def passive_in_sync(self) -> bool:
        """Return whether the passive streams and ``/sync`` names it: a failover loses nothing."""
        passive = self.passive
        return (
            passive is not None
            and passive.patroni is not None
            and passive.patroni.streaming
            and self.sync.leader == self.leader
            and passive.config.member in self.sync.standbys
        )
