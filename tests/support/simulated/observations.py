"""A cluster as an observer sees it, built in one line, for tests of pure decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from openvcha.api.structures import ClusterMode, ConfigState, IpFamily, IpSpec, Ipv4Spec
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports
from openvcha.cluster.observing.observation import NodeObservation, NodeReport, Observation
from openvcha.node.identity import Timers
from openvcha.store.node_facts import NodeFacts
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState

PRIMARY = PatroniNode("primary", "running", 1, ("b-2",))


STREAMING = PatroniNode("replica", "streaming", 1, ())


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


FACTS = NodeFacts(
    versions={"openvcha": "0.1", "etcd": "3.4.23", "postgresql": "15.4", "patroni": "4.1.5"},
    disk_free=60 << 30,
    disk_total=100 << 30,
    clock=NOW,
    certificate_until=NOW + timedelta(days=3650),
    api_certificate_until=NOW + timedelta(days=825),
)


def ip(address: str) -> IpSpec:
    """Return an IpSpec of an IPv4 address."""
    return IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address=address, prefix=24))


def configured(member: str, kind: NodeKind, number: int) -> NodeConfig:
    """Return the configuration of a node."""
    return NodeConfig(
        member=member,
        name=f"vcha-{number}",
        kind=kind,
        vm=f"vm-{number}",
        bios_uuid=f"uuid-{number}",
        ha_ip=ip(f"127.83.2.1{number}"),
    )


class ObservationBuilder:
    """A cluster that a test breaks piece by piece."""

    def __init__(self) -> None:
        nodes = (
            configured("a-1", NodeKind.DATA, 1),
            configured("b-2", NodeKind.DATA, 2),
            configured("w-3", NodeKind.WITNESS, 3),
        )
        config = ClusterConfig(
            id="c",
            name="lab",
            state=ConfigState.CONFIGURED,
            deployment="AUTO",
            mode=ClusterMode.ENABLED,
            management=ip("127.83.1.10"),
            ports=Ports(),
            nodes=nodes,
        )
        parts = (PRIMARY, STREAMING, None)
        self.seen = Observation(
            config=config,
            leader="a-1",
            sync=SyncState("a-1", frozenset({"b-2"})),
            nodes=tuple(
                NodeObservation(
                    node, voter=True, etcd_answers=True, patroni=part, report=NodeReport(FACTS, 0.0)
                )
                for node, part in zip(nodes, parts, strict=True)
            ),
            running=None,
            time=NOW,
            lag_limit=Timers().replication_lag,
        )

    def node(self, member: str, **changes: object) -> None:
        """Change what was observed of a node."""
        nodes = tuple(
            replace(node, **changes) if node.config.member == member else node  # type: ignore[arg-type]  # the tests name the fields
            for node in self.seen.nodes
        )
        self.seen = replace(self.seen, nodes=nodes)

    def hear(self, member: str, **changes: object) -> None:
        """Change what a node has reported."""
        node = self.seen.node(member)
        assert node is not None
        self.node(member, report=replace(node.report, **changes))  # type: ignore[arg-type]  # as above

    def tell(self, member: str, **facts: object) -> None:
        """Change the facts of PostgreSQL that a node has reported."""
        self.hear(member, facts=msgspec.structs.replace(FACTS, **facts))

    def lose(self, member: str) -> None:
        """Lose a node, as after a power loss once Patroni has noticed."""
        self.node(member, etcd_answers=False, patroni=None)
        self.seen = replace(self.seen, sync=SyncState("a-1", frozenset()))

    def set(self, **changes: object) -> None:
        """Change fields of the observation."""
        self.seen = replace(self.seen, **changes)  # type: ignore[arg-type]  # as above

    def refuse(self, *names: str) -> None:
        """Put settings into Patroni's configuration that no Patroni accepts."""
        self.seen = replace(self.seen, refused=names)

    def configure(self, **changes: object) -> None:
        """Change fields of the configuration."""
        config = msgspec.structs.replace(self.seen.config, **changes)
        self.seen = replace(self.seen, config=config)
