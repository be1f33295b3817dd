"""Why an operation may not run now: one function for the API, the command line and the page."""

from collections.abc import Callable, Mapping

from openvcha.api.messages import message
from openvcha.api.structures import ClusterMode, ConfigState, LocalizableMessage
from openvcha.cluster.health import votes, writable
from openvcha.cluster.observation import NodeObservation, Observation

VCHA = "com.vmware.vcenter.vcha"
DEPLOY = f"{VCHA}.cluster.deploy"
FAILOVER = f"{VCHA}.cluster.failover"
UNDEPLOY = f"{VCHA}.cluster.undeploy"
REDEPLOY_PASSIVE = f"{VCHA}.cluster.passive.redeploy"
REDEPLOY_WITNESS = f"{VCHA}.cluster.witness.redeploy"
SET_MODE = f"{VCHA}.cluster.mode.set"

Reason = LocalizableMessage | None


def why_not(operation: str, seen: Observation) -> Reason:
    """Say why ``operation`` (its full id) is refused in what was seen; None when it may run.

    A running operation is not a reason here: starting a second one is decided by the journal, in
    the same transaction that starts it.
    """
    rule = RULES.get(operation)
    return rule(seen) if rule else None


def _deploy(seen: Observation) -> Reason:
    if seen.config.state in {ConfigState.CONFIGURED, ConfigState.PREPARED}:
        return message("cluster.exists")
    if len(seen.config.nodes) > 1:
        return message("deploy.remains", ", ".join(node.name for node in seen.config.nodes))
    return _no_active(seen)


def _needs_cluster(seen: Observation) -> Reason:
    if seen.config.state is not ConfigState.CONFIGURED:
        return message("cluster.not.configured")
    return None


def _no_active(seen: Observation) -> Reason:
    active = seen.active
    if active is None or not writable(active):
        return message("no.active")
    return None


def _redeploy_passive(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen) or _no_active(seen):
        return reason
    passive = seen.passive
    if passive is not None and passive.voter and passive.etcd_answers and seen.passive_in_sync:
        return message("passive.healthy", passive.config.name)
    return _no_majority_without(seen, passive)


def _redeploy_witness(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen) or _no_active(seen):
        return reason
    witness = seen.witness
    if witness is not None and witness.voter and witness.etcd_answers:
        return message("witness.healthy", witness.config.name)
    return _no_majority_without(seen, witness)


def _no_majority_without(seen: Observation, leaving: NodeObservation | None) -> Reason:
    """Taking a vote must leave a majority, or the store stops and the active with it."""
    if leaving is None or not leaving.voter:
        return None
    staying = [node for node in seen.nodes if node.voter and node is not leaving]
    silent = [node.config.name for node in staying if not node.etcd_answers]
    if 2 * (len(staying) - len(silent)) > len(staying):
        return None
    return message("no.majority", leaving.config.name, ", ".join(silent))


def _failover(seen: Observation) -> Reason:
    if reason := _needs_cluster(seen) or _no_active(seen):
        return reason
    if seen.config.mode is ClusterMode.DISABLED:
        return message("failover.mode.disabled")
    nodes = (seen.active, seen.passive, seen.witness)
    if not all(node is not None and votes(node) for node in nodes):
        return message("failover.node.lost")
    return None if seen.passive_in_sync else message("failover.passive.not.ready")


RULES: Mapping[str, Callable[[Observation], Reason]] = {
    DEPLOY: _deploy,
    UNDEPLOY: _needs_cluster,
    FAILOVER: _failover,
    SET_MODE: _needs_cluster,
    REDEPLOY_PASSIVE: _redeploy_passive,
    REDEPLOY_WITNESS: _redeploy_witness,
}
