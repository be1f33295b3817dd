"""The preconditions of operations: one function for the API, the command line and the service."""

from collections.abc import Callable, Mapping

from openvcha.api.errors import ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import ClusterMode, ClusterState, ConfigState
from openvcha.cluster.config import NodeKind
from openvcha.cluster.failover_obstacle import FailoverObstacle
from openvcha.cluster.findings.health import assess, can_vote, writable
from openvcha.cluster.findings.warnings import differing_versions
from openvcha.cluster.modes import CHANGES, Requirement
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.cluster.refusal import Persistence, Refusal
from openvcha.store.keys import PAUSE

VCHA = "com.vmware.vcenter.vcha"
DEPLOY = f"{VCHA}.cluster.deploy"
FAILOVER = f"{VCHA}.cluster.failover"
UNDEPLOY = f"{VCHA}.cluster.undeploy"
REDEPLOY_PASSIVE = f"{VCHA}.cluster.passive.redeploy"
REDEPLOY_WITNESS = f"{VCHA}.cluster.witness.redeploy"
SET_MODE = f"{VCHA}.cluster.mode.set"
GET_MODE = f"{VCHA}.cluster.mode.get"

Reason = Refusal | None

UNREADY_SECONDS = 15.0
"""A passive that responds but is not in sync may just be starting, or following a new active."""


def why_not(operation: str, seen: Observation) -> Reason:
    """Return why ``operation`` (its full id) is refused in this state; None when it may run.

    A running operation is not a reason here: the journal refuses a second one, in the same
    transaction that would start it.
    """
    rule = RULES.get(operation)
    return rule(seen) if rule else None


def why_not_mode(wanted: ClusterMode, seen: Observation) -> Reason:
    """Return why the mode cannot become ``wanted``; None when it can."""
    if reason := _needs_cluster(seen):
        return reason
    mode = seen.config.mode
    if mode is wanted:
        return Refusal(message("mode.same", mode), kind=ErrorType.ALREADY_IN_DESIRED_STATE)
    needs = CHANGES.get((mode, wanted))
    if needs is None:
        return Refusal(message("mode.change.never", mode, wanted))
    if reason := _no_active(seen):
        return reason
    return None if needs is Requirement.AN_ACTIVE else _unwell(seen, needs)


def _unwell(seen: Observation, needs: Requirement) -> Reason:
    health = assess(seen)
    if health.state is not ClusterState.HEALTHY:
        return Refusal(
            message("mode.unhealthy", health.warnings[0].error.default_message),
            Persistence.TRANSIENT,
        )
    differing = next(differing_versions(seen), None)
    if needs is Requirement.ALIKE and differing is not None:
        return Refusal(message("mode.versions", differing.condition.error.default_message))
    passive = seen.passive
    if needs is Requirement.ALL_UP and (passive is None or passive.patroni is None):
        return Refusal(
            message("mode.passive.silent", passive.config.name if passive else ""),
            Persistence.TRANSIENT,
        )
    return None


def _set_mode(seen: Observation) -> Reason:
    """Refuse only if every change is refused, with the reason of a change that exists."""
    changes = [wanted for mode, wanted in CHANGES if mode is seen.config.mode]
    reasons = [why_not_mode(wanted, seen) for wanted in changes]
    return None if None in reasons else reasons[0]


def _deploy(seen: Observation) -> Reason:
    if seen.config.state is ConfigState.CONFIGURED:
        return Refusal(message("cluster.exists"))
    if any(node.member for node in seen.config.planned):
        return Refusal(message("cluster.prepared"))
    if len(seen.config.nodes) > 1:
        return Refusal(
            message("deploy.remains", ", ".join(node.name for node in seen.config.nodes))
        )
    return _no_active(seen)


def why_not_join(kind: NodeKind, seen: Observation) -> Reason:
    """Return why no node of this kind may join now; a lost node of a manual cluster is replaced."""
    planned = seen.config.planned_node(kind)
    role = "witness" if kind is NodeKind.WITNESS else "passive"
    if seen.config.state is ConfigState.PREPARED and planned is not None:
        return Refusal(message("join.joined", planned.name, role)) if planned.member else None
    if seen.config.state is not ConfigState.CONFIGURED:
        return Refusal(message("join.not.prepared"))
    if seen.config.deployment != "MANUAL":
        return Refusal(message("join.automatic", role))
    return _redeploy_witness(seen) if kind is NodeKind.WITNESS else _redeploy_passive(seen)


def _needs_cluster(seen: Observation) -> Reason:
    if seen.config.state is ConfigState.PREPARED:
        return Refusal(message("cluster.prepared"))
    if seen.config.state is not ConfigState.CONFIGURED:
        return Refusal(message("cluster.not.configured"))
    return None


def _undeploy(seen: Observation) -> Reason:
    """Refuse an undeploy unless the active can vote; a half-deployed cluster qualifies, too."""
    if seen.config.state is ConfigState.NOTCONFIGURED:
        return Refusal(message("cluster.not.configured"))
    if reason := _no_active(seen):
        return reason
    active = seen.active
    if active is None or not can_vote(active):
        return Refusal(
            message("active.no.vote", active.config.name if active else ""), Persistence.MOMENTARY
        )
    return None


def _no_active(seen: Observation) -> Reason:
    active = seen.active
    if seen.unknown_leader is not None:
        return Refusal(message("active.stranger", seen.unknown_leader), Persistence.TRANSIENT)
    if active is None or not writable(active):
        return Refusal(message("no.active"), Persistence.MOMENTARY)
    return None


def _redeploy_passive(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen) or _no_active(seen):
        return reason
    passive = seen.passive
    if passive is None:
        return None
    if can_vote(passive) and seen.passive_in_sync and not passive.unsure:
        return Refusal(message("passive.healthy", passive.config.name))
    if _stands_by(seen, passive):
        return Refusal(message("passive.detached", passive.config.name))
    return _no_majority_without(seen, passive) or _unready(seen, passive)


def _unready(seen: Observation, passive: NodeObservation) -> Reason:
    """Refuse while the passive may still get in sync; a single missed response is no loss."""
    if passive.unsure:
        return Refusal(
            message("node.unsure", "passive", passive.config.name), Persistence.MOMENTARY
        )
    if not can_vote(passive) or seen.unready_seconds >= UNREADY_SECONDS:
        return None
    return Refusal(
        message("passive.unready", passive.config.name, f"{UNREADY_SECONDS:g}"),
        Persistence.TRANSIENT,
    )


def _stands_by(seen: Observation, passive: NodeObservation) -> bool:
    """Return whether the mode keeps the passive stopped; its Patroni may be silent for a moment."""
    return seen.config.mode is ClusterMode.DISABLED and can_vote(passive)


def _redeploy_witness(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen) or _no_active(seen):
        return reason
    witness = seen.witness
    if witness is not None and witness.unsure:
        return Refusal(
            message("node.unsure", "witness", witness.config.name), Persistence.MOMENTARY
        )
    if witness is not None and witness.voter and witness.etcd_answers:
        return Refusal(message("witness.healthy", witness.config.name))
    return _no_majority_without(seen, witness)


def _no_majority_without(seen: Observation, leaving: NodeObservation | None) -> Reason:
    """Refuse to remove a vote if no majority would be left: the store would stop."""
    if leaving is None or not leaving.voter:
        return None
    staying = [node for node in seen.nodes if node.voter and node is not leaving]
    silent = [node.config.name for node in staying if not node.etcd_answers]
    if 2 * (len(staying) - len(silent)) > len(staying):
        return None
    return Refusal(
        message("no.majority", leaving.config.name, ", ".join(silent)), Persistence.MOMENTARY
    )


def _failover(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen):
        return reason
    if seen.unknown_leader is not None:
        return _failover_from(seen.unknown_leader, seen)
    if reason := _no_active(seen):
        return reason
    if seen.config.mode is ClusterMode.DISABLED:
        return Refusal(FailoverObstacle.MODE_DISABLED.message())
    return _incomplete(seen) or _not_in_sync(seen)


def _not_in_sync(seen: Observation) -> Reason:
    if seen.passive_in_sync:
        return None
    return Refusal(FailoverObstacle.NOT_IN_SYNC.message(), Persistence.TRANSIENT)


def _incomplete(seen: Observation) -> Reason:
    nodes = (("active", seen.active), ("passive", seen.passive), ("witness", seen.witness))
    for role, node in nodes:
        if node is not None and node.unsure and not can_vote(node):
            return Refusal(message("node.unsure", role, node.config.name), Persistence.MOMENTARY)
    if not all(node is not None and can_vote(node) for _, node in nodes):
        return Refusal(FailoverObstacle.NODE_LOST.message())
    return None


def _failover_from(stranger: str, seen: Observation) -> Reason:
    """Refuse unless a node of the cluster provably has every acknowledged write.

    While paused, a leader may acknowledge alone, and ``/sync`` does not show it. A lost node is no
    reason to refuse here: the leader is a node that was removed from the cluster.
    """
    if seen.config.mode is ClusterMode.DISABLED:
        return Refusal(FailoverObstacle.MODE_DISABLED.message())
    binding = seen.config.mode is ClusterMode.ENABLED and PAUSE not in seen.settings
    heir = seen.sync_candidate if binding else None
    if heir is None or not can_vote(heir) or heir.unsure:
        return Refusal(FailoverObstacle.UNPROVEN.message(stranger), Persistence.TRANSIENT)
    return None


def why_not_planned(seen: Observation) -> Reason:
    """Return why only a forced failover is possible; None when a planned one is, too."""
    return (
        Refusal(message("failover.stranger.planned", seen.unknown_leader))
        if seen.unknown_leader
        else None
    )


def fails_over_by_itself(seen: Observation) -> bool:
    """Return whether the passive would take over automatically.

    Not during a change of the mode, and not while the store is full: taking the lead is a write.
    """
    if seen.space is not None and seen.space.full:
        return False
    if seen.config.mode is not ClusterMode.ENABLED or PAUSE in seen.settings:
        return False
    return _failover(seen) is None


RULES: Mapping[str, Callable[[Observation], Reason]] = {
    DEPLOY: _deploy,
    UNDEPLOY: _undeploy,
    FAILOVER: _failover,
    SET_MODE: _set_mode,
    GET_MODE: _needs_cluster,
    REDEPLOY_PASSIVE: _redeploy_passive,
    REDEPLOY_WITNESS: _redeploy_witness,
}
CHANGING = RULES.keys() - {GET_MODE}
"""Operations that exclude each other: only one runs at a time."""
