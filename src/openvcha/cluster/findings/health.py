"""The health of the cluster, with the reasons: a pure function of an observation.

HEALTHY and DEGRADED mean what the API documents: all three nodes are connected and the passive is
in sync, or not; and clients must reach the active at the public address. Operations depend on that
state, so mere risks (a disk that fills up, a certificate that expires, clocks or versions that
differ, missing reports) do not change it: they are warnings, which a HEALTHY cluster may have, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from openvcha.api.structures import ClusterMode, ClusterState, ConfigState, ErrorCondition
from openvcha.cluster.findings.address import address_faults
from openvcha.cluster.findings.finding import Finding, finding
from openvcha.cluster.findings.warnings import find_warnings, lagging, postgres_refusal
from openvcha.cluster.observing.observation import NodeObservation, Observation

STRANGER_ADVICE: Mapping[ClusterMode, str] = MappingProxyType(
    {
        ClusterMode.ENABLED: "active.stranger.recommendation",
        ClusterMode.MAINTENANCE: "active.stranger.maintenance.recommendation",
        ClusterMode.DISABLED: "active.stranger.disabled.recommendation",
    }
)
"""What to do about a leader that was removed from the cluster: only what the mode permits."""


@dataclass(frozen=True)
class Health:
    """The state and its findings: faults first, then warnings."""

    state: ClusterState
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[ErrorCondition, ...]:
        """Return error and recommendation of each finding; never empty unless HEALTHY."""
        return tuple(found.condition for found in self.findings)


def assess(seen: Observation) -> Health:
    """Assess a deployed cluster. HEALTHY means: connected, streaming and in sync."""
    faults = (
        *_active(seen),
        *address_faults(seen),
        *(postgres_refusal(seen.active) if seen.active is not None else ()),
        *_lost_nodes(seen),
        *_margin(seen),
        *_full(seen),
        *_replication(seen),
    )
    state = ClusterState.DEGRADED if faults else ClusterState.HEALTHY
    return Health(state, (*faults, *find_warnings(seen)))


def deployed(seen: Observation) -> bool:
    """Return whether a cluster of three is configured."""
    return seen.config.state is ConfigState.CONFIGURED


def writable(node: NodeObservation) -> bool:
    """Return whether PostgreSQL of the node accepts writes."""
    return node.patroni is not None and node.patroni.primary


def can_vote(node: NodeObservation) -> bool:
    """Return whether the node is a voter whose etcd responds."""
    return node.voter and node.etcd_answers


def _active(seen: Observation) -> Iterator[Finding]:
    if seen.unknown_leader is not None:
        advice = STRANGER_ADVICE[seen.config.mode]
        yield finding("active.stranger", seen.unknown_leader, advice=(advice, seen.unknown_leader))
    elif seen.active is None or not writable(seen.active):
        yield finding("no.active")
    elif not can_vote(seen.active):
        yield finding("active.no.vote", seen.active.config.name)


def _lost_nodes(seen: Observation) -> Iterator[Finding]:
    for role, node in (("passive", seen.passive), ("witness", seen.witness)):
        if node is None:
            yield finding("node.missing", role, advice=("node.redeploy.recommendation", role))
        elif not can_vote(node):
            name = node.config.name
            advice = "node.redeploy" if node.voter else "node.removed"
            yield finding("node.lost", role, name, advice=(f"{advice}.recommendation", role))


def _margin(seen: Observation) -> Iterator[Finding]:
    """Report that the loss of one more node would stop the store."""
    voters = [node for node in seen.nodes if node.voter]
    answering = sum(node.etcd_answers for node in voters)
    if answering <= len(voters) // 2 + 1:
        yield finding("quorum.no.margin", answering, len(voters), about=())


def _full(seen: Observation) -> Iterator[Finding]:
    """Report that the store accepts no writes: no failover, no login, no release of a commit."""
    if seen.space is not None and seen.space.full:
        yield finding("store.full", seen.space.size, seen.space.quota, about=())


def _replication(seen: Observation) -> Iterator[Finding]:
    passive = seen.passive
    wanted = seen.config.mode is not ClusterMode.DISABLED
    if passive is None or not can_vote(passive) or not wanted or seen.passive_in_sync:
        return
    if passive.patroni is None or not passive.patroni.streaming:
        yield finding("replication.stopped", passive.config.name)
    elif (lag := lagging(seen, passive)) is not None:
        yield lag
    else:
        yield finding("replication.not.in.sync", passive.config.name)
