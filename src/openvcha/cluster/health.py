"""How well the cluster is, and why: a pure function of an observation."""

from dataclasses import dataclass

from openvcha.api.messages import message
from openvcha.api.structures import (
    ClusterMode,
    ClusterState,
    ConfigState,
    ErrorCondition,
)
from openvcha.cluster.observation import NodeObservation, Observation


@dataclass(frozen=True)
class Health:
    """The state with its reasons; ``warnings`` is empty exactly when the state is HEALTHY."""

    state: ClusterState
    warnings: tuple[ErrorCondition, ...]


def assess(seen: Observation) -> Health:
    """Judge a deployed cluster (design notes: HEALTHY means connected, streaming and in sync)."""
    warnings = (*_lost_nodes(seen), *_replication(seen))
    state = ClusterState.DEGRADED if warnings else ClusterState.HEALTHY
    return Health(state, warnings)


def deployed(seen: Observation) -> bool:
    """Tell whether there is a cluster of three to speak of."""
    return seen.config.state is ConfigState.CONFIGURED


def _lost_nodes(seen: Observation) -> tuple[ErrorCondition, ...]:
    found = []
    if seen.active is None or not writable(seen.active):
        found.append(_condition("no.active", "no.active.recommendation"))
    elif _down(seen.active):
        name = seen.active.config.name
        found.append(_condition("active.no.vote", "active.no.vote.recommendation", name))
    for role, node in (("passive", seen.passive), ("witness", seen.witness)):
        if node is None:
            found.append(_condition("node.missing", "node.redeploy.recommendation", role))
        elif _down(node):
            found.append(
                ErrorCondition(
                    error=message("node.lost", role, node.config.name),
                    recommendation=message(
                        "com.vmware.vcenter.vcha.node.redeploy.recommendation", role
                    ),
                )
            )
    return tuple(found)


def writable(node: NodeObservation) -> bool:
    """Tell whether PostgreSQL of the node takes writes."""
    return node.patroni is not None and node.patroni.primary


def _down(node: NodeObservation) -> bool:
    return not (node.voter and node.etcd_answers)


def _replication(seen: Observation) -> tuple[ErrorCondition, ...]:
    passive = seen.passive
    wanted = seen.config.mode is not ClusterMode.DISABLED
    if passive is None or _down(passive) or not wanted or seen.passive_in_sync:
        return ()
    streams = passive.patroni is not None and passive.patroni.streaming
    reason = "replication.not.in.sync" if streams else "replication.stopped"
    return (_condition(reason, f"{reason}.recommendation", passive.config.name),)


def _condition(error: str, recommendation: str, *args: str) -> ErrorCondition:
    return ErrorCondition(
        error=message(error, *args),
        recommendation=message(recommendation, *args),
    )
