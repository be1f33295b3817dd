"""How well the cluster is, and why: a pure function of an observation.

HEALTHY and DEGRADED mean what the API's description says: all three nodes are connected and the
passive has everything, or not. Operations go by that state, so what only *threatens* (a disk that
fills, a certificate that ends, clocks or versions that differ, no news) does not change it: it is
a warning beside it, also of a HEALTHY cluster. So no warning means HEALTHY, as described.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from openvcha.api.structures import ClusterMode, ClusterState, ConfigState, ErrorCondition
from openvcha.cluster.finding import Finding, finding
from openvcha.cluster.observation import NodeObservation, Observation
from openvcha.cluster.warnings import lagging, refusal, threats


@dataclass(frozen=True)
class Health:
    """The state, with all that was found: first what degrades, then what only threatens."""

    state: ClusterState
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[ErrorCondition, ...]:
        """Return error and recommendation of each; there is always one unless HEALTHY."""
        return tuple(found.condition for found in self.findings)


def assess(seen: Observation) -> Health:
    """Judge a deployed cluster (design notes: HEALTHY means connected, streaming and in sync)."""
    faults = (
        *_active(seen),
        *(refusal(seen.active) if seen.active is not None else ()),
        *_lost_nodes(seen),
        *_margin(seen),
        *_full(seen),
        *_replication(seen),
    )
    state = ClusterState.DEGRADED if faults else ClusterState.HEALTHY
    return Health(state, (*faults, *threats(seen)))


def deployed(seen: Observation) -> bool:
    """Return whether there is a cluster of three to speak of."""
    return seen.config.state is ConfigState.CONFIGURED


def writable(node: NodeObservation) -> bool:
    """Return whether PostgreSQL of the node takes writes."""
    return node.patroni is not None and node.patroni.primary


def votes(node: NodeObservation) -> bool:
    """Return whether the node has a vote and can give it."""
    return node.voter and node.etcd_answers


def _active(seen: Observation) -> Iterator[Finding]:
    if seen.stranger is not None:
        yield finding("active.stranger", seen.stranger)
    elif seen.active is None or not writable(seen.active):
        yield finding("no.active")
    elif not votes(seen.active):
        yield finding("active.no.vote", seen.active.config.name)


def _lost_nodes(seen: Observation) -> Iterator[Finding]:
    for role, node in (("passive", seen.passive), ("witness", seen.witness)):
        if node is None:
            yield finding("node.missing", role, advice=("node.redeploy.recommendation", role))
        elif not votes(node):
            name = node.config.name
            advice = "node.redeploy" if node.voter else "node.removed"
            yield finding("node.lost", role, name, advice=(f"{advice}.recommendation", role))


def _margin(seen: Observation) -> Iterator[Finding]:
    """Return when one more loss would stop the store: then nobody could take over, nor write."""
    voters = [node for node in seen.nodes if node.voter]
    answering = sum(node.etcd_answers for node in voters)
    if answering <= len(voters) // 2 + 1:
        yield finding("quorum.no.margin", answering, len(voters), about=())


def _full(seen: Observation) -> Iterator[Finding]:
    """Report that nothing can be written: nobody could take over, log in, or release a commit."""
    if seen.space is not None and seen.space.full:
        yield finding("store.full", seen.space.size, seen.space.quota, about=())


def _replication(seen: Observation) -> Iterator[Finding]:
    passive = seen.passive
    wanted = seen.config.mode is not ClusterMode.DISABLED
    if passive is None or not votes(passive) or not wanted or seen.passive_in_sync:
        return
    if passive.patroni is None or not passive.patroni.streaming:
        yield finding("replication.stopped", passive.config.name)
    elif (lag := lagging(seen, passive)) is not None:
        yield lag
    else:
        yield finding("replication.not.in.sync", passive.config.name)
