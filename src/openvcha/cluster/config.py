"""The configuration of the cluster: one record that names its nodes and their addresses."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import ClusterMode, ConfigState, IpSpec
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.records import Record

Deployment = Literal["NONE", "AUTO", "MANUAL"]


class NodeKind(StrEnum):
    """Whether a node holds data (it may be active or passive) or only votes."""

    DATA = "data"
    WITNESS = "witness"


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configured node.

    ``member`` is its name in etcd and in Patroni. It is unique for each incarnation, so that the
    remains of a lost node (a slot, an entry in ``/sync``) are never mistaken for its successor's.
    """

    member: str
    name: str
    kind: NodeKind
    vm: str
    bios_uuid: str
    ha_ip: IpSpec
    failover_ip: IpSpec | None = None

    @property
    def ha_address(self) -> str:
        """Return the address that etcd, Patroni and PostgreSQL of this node listen on."""
        return address_text(self.ha_ip)


class PlannedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a prepared cluster; ``member`` and ``name`` are set once it has joined."""

    kind: NodeKind
    ha_ip: IpSpec
    failover_ip: IpSpec | None = None
    member: str = ""
    name: str = ""

    @property
    def ha_address(self) -> str:
        """Return the bare HA address."""
        return address_text(self.ha_ip)

    def to_config(self) -> NodeConfig:
        """Return the configured node; it has no VM that this service could create or delete."""
        return NodeConfig(
            member=self.member,
            name=self.name,
            kind=self.kind,
            vm="",
            bios_uuid="",
            ha_ip=self.ha_ip,
            failover_ip=self.failover_ip,
        )


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports, the same on every node."""

    etcd_client: int = 2379
    etcd_peer: int = 2380
    patroni: int = 8008
    postgres: int = 5432
    api: int = 8443


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that the active holds. ``management`` is the public address.

    ``planned`` are the nodes that an administrator creates, until all of them have joined.
    """

    id: str
    name: str
    state: ConfigState
    deployment: Deployment
    mode: ClusterMode
    management: IpSpec
    ports: Ports
    nodes: tuple[NodeConfig, ...]
    planned: tuple[PlannedNode, ...] = ()

    def node(self, member: str) -> NodeConfig | None:
        """Return the node with this member name; None when there is none."""
        return next((node for node in self.nodes if node.member == member), None)

    def of_kind(self, kind: NodeKind) -> Iterator[NodeConfig]:
        """Return the nodes of one kind in their configured order."""
        return (node for node in self.nodes if node.kind is kind)

    def peer_of(self, leader: str) -> NodeConfig | None:
        """Return the data node that is not ``leader``: the passive while ``leader`` is active."""
        return next((n for n in self.of_kind(NodeKind.DATA) if n.member != leader), None)

    @property
    def witness(self) -> NodeConfig | None:
        """Return the witness; None when there is none."""
        return next(self.of_kind(NodeKind.WITNESS), None)

    def planned_node(self, kind: NodeKind) -> PlannedNode | None:
        """Return the planned node of a kind; None when there is none."""
        return next((node for node in self.planned if node.kind is kind), None)

    def with_planned(self, new: PlannedNode) -> "ClusterConfig":
        """Return this configuration with ``new`` as the planned node of its kind."""
        planned = tuple(new if node.kind is new.kind else node for node in self.planned)
        return msgspec.structs.replace(self, planned=planned)

    def with_replaced(self, old: str | None, new: NodeConfig) -> "ClusterConfig":
        """Return this configuration with ``new`` in place of ``old``. Idempotent."""
        if self.node(new.member) is not None:
            return self
        nodes = tuple(new if node.member == old else node for node in self.nodes)
        return msgspec.structs.replace(self, nodes=nodes if new in nodes else (*nodes, new))

    def reduced_to(self, member: str) -> "ClusterConfig":
        """Return the configuration of a single node, the last one of a cluster. Idempotent.

        Raises LookupError when the configuration does not name the node.
        """
        node = self.node(member)
        if node is None:
            raise LookupError(f"the configuration has no node {member}")
        return msgspec.structs.replace(
            self,
            state=ConfigState.NOTCONFIGURED,
            deployment="NONE",
            mode=ClusterMode.ENABLED,
            management=node.failover_ip or self.management,
            nodes=(node,),
            planned=(),
        )


def address_text(spec: IpSpec) -> str:
    """Return the bare address of a validated specification."""
    chosen = spec.ipv4 or spec.ipv6
    if chosen is None:
        raise ValueError("an address specification without an address")
    return chosen.address


def cluster_record(store: Store) -> Record[ClusterConfig]:
    """Return the cluster's configuration as a compare-and-set record."""
    return Record(store, keys.CLUSTER, ClusterConfig)


async def read_config(store: Store) -> ClusterConfig:
    """Read the configuration. Raises LookupError before the first node has written it."""
    config = await cluster_record(store).get()
    if config is None:
        raise LookupError("the cluster has no configuration yet")
    return config


prepare(__name__)
