"""What is true of the cluster right now, as far as this node can see."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind
from openvcha.cluster.store_space import Space
from openvcha.store.node_facts import NodeFacts
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState


@dataclass(frozen=True)
class Heard:
    """What a node has told of itself; ``facts`` unset: unknown, which is no fault by itself.

    ``clock_off``: seconds by which its clock is ahead of the observer's, None while unknown.
    ``silent``: nothing was heard for longer than a node takes to start.
    """

    facts: NodeFacts | None = None
    clock_off: float | None = None
    silent: bool = False


@dataclass(frozen=True)
class NodeObservation:
    """One node: its vote (None when it has none in etcd), and its Patroni (None: no answer).

    ``unsure``: it has just missed an answer, which is no verdict yet. The rest is as it was before.
    """

    config: NodeConfig
    voter: bool
    etcd_answers: bool
    patroni: PatroniNode | None
    heard: Heard = Heard()
    unsure: bool = False

    @property
    def up(self) -> bool:
        """Return whether anything of the node answers."""
        return self.etcd_answers or self.patroni is not None

    @property
    def unknown(self) -> bool:
        """Return whether some of it has neither answered once nor been silent for long enough."""
        silent = self.patroni is None and self.config.kind is NodeKind.DATA
        return self.unsure and (silent or not self.etcd_answers)


@dataclass(frozen=True)
class Lag:
    """How far what one standby has replayed is behind the primary."""

    member: str
    bytes_behind: int
    seconds_behind: float


@dataclass(frozen=True)
class Observation:
    """A consistent-enough picture: each part is as old as the call that made it."""

    config: ClusterConfig
    leader: str | None
    sync: SyncState
    nodes: tuple[NodeObservation, ...]
    running: tuple[str, str] | None
    """The operation that runs now and its task id."""
    lags: tuple[Lag, ...] = ()
    """Of the standbys that stream from the active; empty when it could not be asked."""
    time: datetime | None = None
    """When it was seen."""
    settings: frozenset[str] = frozenset()
    """The settings of a mode that are on in Patroni: also of one that is only on its way."""
    refused: tuple[str, ...] = ()
    """What stands in Patroni's dynamic configuration and no Patroni takes."""
    unfit: Mapping[str, object] = field(default_factory=dict)
    """Other settings of Patroni that are not as a cluster needs them, with what they should be."""
    unreadable: tuple[str, ...] = ()
    """The keys in the store whose values cannot be read; what they say counts as unknown."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """Background work of the observer's service that fails now, and why."""
    unready_seconds: float = math.inf
    """For how long the passive has been seen without being in sync, without a break."""
    forged: tuple[str, ...] = ()
    """The records that failed their check within the last minute."""
    space: Space | None = None
    """How full the store is; None: unknown."""

    def node(self, member: str | None) -> NodeObservation | None:
        """Find what is known of one member."""
        return next((n for n in self.nodes if n.config.member == member), None)

    @property
    def whole(self) -> bool:
        """Return whether something is known of each node, if only that it is surely silent."""
        return not any(node.unknown for node in self.nodes)

    @property
    def active(self) -> NodeObservation | None:
        """Return the node that holds the leader key."""
        return self.node(self.leader)

    @property
    def stranger(self) -> str | None:
        """Return the member that holds the leader key and is no node of this cluster."""
        return self.leader if self.active is None else None

    @property
    def named(self) -> NodeObservation | None:
        """Return the data node that answers and that ``/sync`` names beside the leader."""
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
        """Find how far a standby is behind; None: unknown."""
        return next((lag for lag in self.lags if lag.member == member), None)

    @property
    def passive_in_sync(self) -> bool:
        """Return whether the passive streams and may take over without loss: ``/sync`` names it."""
        passive = self.passive
        return (
            passive is not None
            and passive.patroni is not None
            and passive.patroni.streaming
            and self.sync.leader == self.leader
            and passive.config.member in self.sync.standbys
        )
