"""What is true of the cluster right now, as far as this node can see."""

from dataclasses import dataclass

from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind
from openvcha.cluster.patroni import PatroniNode, SyncState


@dataclass(frozen=True)
class NodeObservation:
    """One node: its vote (None when it has none in etcd), and its Patroni (None: no answer)."""

    config: NodeConfig
    voter: bool
    etcd_answers: bool
    patroni: PatroniNode | None

    @property
    def up(self) -> bool:
        """Tell whether anything of the node answers."""
        return self.etcd_answers or self.patroni is not None


@dataclass(frozen=True)
class Lag:
    """How far one standby is behind the primary."""

    member: str
    state: str
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

    def node(self, member: str | None) -> NodeObservation | None:
        """Find what is known of one member."""
        return next((n for n in self.nodes if n.config.member == member), None)

    @property
    def active(self) -> NodeObservation | None:
        """Give the node that holds the leader key."""
        return self.node(self.leader)

    @property
    def passive(self) -> NodeObservation | None:
        """Give the data node that does not hold the leader key."""
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
        """Give the witness."""
        return next((n for n in self.nodes if n.config.kind is NodeKind.WITNESS), None)

    @property
    def passive_in_sync(self) -> bool:
        """Tell whether the passive streams and may take over without loss (``/sync`` names it)."""
        passive = self.passive
        return (
            passive is not None
            and passive.patroni is not None
            and passive.patroni.streaming
            and self.sync.leader == self.leader
            and passive.config.member in self.sync.standbys
        )
