"""Read-only operations: the cluster, its active, its mode, its operations."""

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import OPERATIONS
from openvcha.api.structures import (
    ActiveInfo,
    ClusterInfo,
    ClusterState,
    ConfigState,
    CredentialsSpec,
    DeploymentType,
    DeploymentTypeInfo,
    IpInfo,
    IpSpec,
    ModeClusterMode,
    ModeInfo,
    NodeInfo,
    NodeRole,
    NodeRuntimeInfo,
    NodeState,
    OperationsInfo,
    PlacementInfo,
    WitnessInfo,
)
from openvcha.cluster import preconditions
from openvcha.cluster.config import NodeKind
from openvcha.cluster.findings import health
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.cluster.preconditions import Reason
from openvcha.cluster.refusal import Persistence, Refusal
from openvcha.infrastructure.addresses import address_of, to_ip_info
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.placement import placement_info
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.peers.check import check_peer, require_usable_peer
from openvcha.operations.preconditions import settled
from openvcha.operations.shown_inventory import shown_inventory
from openvcha.operations.steps.check import require_one_datastore


async def get_cluster(
    services: Services,
    caller: Caller,
    vc_spec: CredentialsSpec | None = None,
    partial: bool | None = None,
) -> ClusterInfo:
    """Return everything that is known about the cluster.

    ``partial`` leaves out the placements, which only the vCenter that manages the nodes knows;
    ``vc_spec`` is then not used, but must be well-formed. Raises ApiError as ``check_peer`` does.
    """
    del caller
    require_usable_peer(vc_spec)
    seen = await services.observe_cached()
    if not partial:
        await check_peer(services, seen, vc_spec)
    if not health.deployed(seen):
        return ClusterInfo(config_state=seen.config.state)
    inventory = None if partial else await shown_inventory(services)
    view = _View(seen, inventory, _manager(services, vc_spec))
    judged = health.assess(seen)
    unwell = judged.state is not ClusterState.HEALTHY
    may_fail_over = preconditions.why_not(preconditions.FAILOVER, seen) is None
    automatic = preconditions.fails_over_by_itself(seen)
    nodes = [view.node(n) for n in seen.nodes if n.config.kind is NodeKind.DATA]
    return ClusterInfo(
        config_state=seen.config.state,
        node1=nodes[0] if nodes else None,
        node2=nodes[1] if len(nodes) > 1 else None,
        witness=view.witness(seen.witness) if seen.witness else None,
        mode=seen.config.mode,
        health_state=judged.state,
        health_warnings=judged.warnings or None,
        manual_failover_allowed=may_fail_over if unwell else None,
        auto_failover_allowed=automatic if unwell else None,
    )


async def get_active(
    services: Services,
    caller: Caller,
    vc_spec: CredentialsSpec | None = None,
    partial: bool | None = None,
) -> ActiveInfo:
    """Return the active's addresses and, unless ``partial``, its placement if it is known.

    Raises ApiError ERROR while no node is active, NOT_FOUND when the vCenter that manages the
    nodes does not know the active's VM, and as ``check_peer`` and ``require_one_datastore`` do.
    """
    del caller
    require_usable_peer(vc_spec)
    seen, _ = await settled(services, _nobody_leads)
    active = seen.active
    if active is None:
        raise ApiError(ErrorType.ERROR, message("no.active"))
    placement = None
    if not partial:
        await check_peer(services, seen, vc_spec, unmanaged=ErrorType.NOT_FOUND)
        await require_one_datastore(services, seen)
        inventory = await shown_inventory(services)
        placement = _View(seen, inventory, _manager(services, vc_spec)).placement(active)
        if placement is None and inventory is not None:
            said = message("active.unmanaged", active.config.name, active.config.vm)
            raise ApiError(ErrorType.NOT_FOUND, said)
    return ActiveInfo(
        management=active.config.failover_ip or seen.config.management,
        ha=active.config.ha_ip,
        placement=placement,
    )


def _nobody_leads(seen: Observation) -> Reason:
    return Refusal(message("no.active"), Persistence.MOMENTARY) if seen.active is None else None


async def get_mode(services: Services, caller: Caller) -> ModeInfo:
    """Return the current mode; during a change it is still the old one."""
    del caller
    config = await services.observer.config()
    if config.state is not ConfigState.CONFIGURED:
        not_yet = message("cluster.not.configured")
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, not_yet)
    return ModeInfo(mode=ModeClusterMode(config.mode.value))


async def get_deployment_type(services: Services, caller: Caller) -> DeploymentTypeInfo:
    """Return how the cluster was deployed."""
    del caller
    config = await services.observer.config()
    return DeploymentTypeInfo(deployment_type=DeploymentType(config.deployment))


VCHA = "com.vmware.vcenter.vcha"
LISTED = frozenset(
    f"{VCHA}.cluster.{name}"
    for name in (
        "deploy",
        "failover",
        "get",
        "undeploy",
        "passive.redeploy",
        "witness.redeploy",
        "mode.get",
        "mode.set",
    )
)
"""The operations that operations.get reports on, according to the API's documentation."""


async def get_operations(services: Services, caller: Caller) -> OperationsInfo:
    """Return which operations are running, and which would be refused."""
    del caller
    seen = await services.observe_cached()
    unavailable = {op.id for op in OPERATIONS if not op.available}
    refused = {op for op in LISTED if preconditions.why_not(op, seen) is not None}
    active = {seen.running[0]} if seen.running else set()
    busy = preconditions.CHANGING & LISTED if active else frozenset()
    return OperationsInfo(
        disabled=frozenset(((refused | busy | unavailable) & LISTED) - active),
        active=frozenset(active & LISTED),
    )


class _View:
    """Converts observed nodes to the API's structures."""

    def __init__(
        self, seen: Observation, inventory: Inventory | None, manager: tuple[str, str | None]
    ) -> None:
        self._seen = seen
        self._inventory = inventory
        self._manager = manager

    def node(self, node: NodeObservation) -> NodeInfo:
        config = node.config
        return NodeInfo(
            failover_ip=_shown(config.failover_ip or self._seen.config.management),
            ha_ip=_shown(config.ha_ip),
            runtime=self._runtime(node),
        )

    def witness(self, node: NodeObservation) -> WitnessInfo:
        return WitnessInfo(ha_ip=_shown(node.config.ha_ip), runtime=self._runtime(node))

    def _runtime(self, node: NodeObservation) -> NodeRuntimeInfo:
        return NodeRuntimeInfo(
            state=NodeState.UP if node.up else NodeState.DOWN,
            role=self._role(node),
            placement=self.placement(node),
        )

    def _role(self, node: NodeObservation) -> NodeRole | None:
        """Return the role; that of a data node is unknown while none leads."""
        if node.config.kind is NodeKind.WITNESS:
            return NodeRole.WITNESS
        if self._seen.active is None:
            return None
        leads = node.config.member == self._seen.leader
        return NodeRole.ACTIVE if leads else NodeRole.PASSIVE

    def placement(self, node: NodeObservation) -> PlacementInfo | None:
        """Return the placement, unless the VM is gone or it was not requested."""
        if self._inventory is None:
            return None
        vm = self._inventory.vm(node.config.vm)
        if vm is None:
            return None
        return placement_info(vm, self._inventory, *self._manager)


def _manager(services: Services, vc_spec: CredentialsSpec | None) -> tuple[str, str | None]:
    """Return name and GUID of the vCenter that manages the nodes; the GUID may be unknown."""
    if vc_spec is not None:
        return vc_spec.active_location.hostname, None
    return services.identity.public_address, services.identity.cluster_id


def _shown(spec: IpSpec) -> IpInfo:
    return to_ip_info(address_of(spec, "stored"))
