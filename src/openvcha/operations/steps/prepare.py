"""Preparing a manual deployment: recording the planned nodes and their addresses."""

import msgspec

from openvcha.api.messages import message
from openvcha.api.structures import ConfigState, DeploySpec, LocalizableMessage
from openvcha.cluster import preconditions
from openvcha.cluster.config import (
    ClusterConfig,
    NodeKind,
    PlannedNode,
    address_text,
    cluster_record,
)
from openvcha.cluster.observing.observation import Observation
from openvcha.operations.context import Services
from openvcha.operations.preconditions import require_still
from openvcha.operations.steps.check import NodeRequest, check_addresses, refuse
from openvcha.operations.steps.check_settings import check_settings
from openvcha.store import keys
from openvcha.tasks.steps import Step, TaskContext


class Prepare(Step):
    """The single step of a manual deployment: it checks and records the addresses."""

    name = "prepare"
    cancelable = False

    def __init__(self, services: Services, spec: DeploySpec) -> None:
        self._services = services
        self._spec = spec

    async def done(self, ctx: TaskContext) -> bool:
        """Return False: every preparation revokes all earlier tokens."""
        del ctx
        return False

    async def act(self, ctx: TaskContext) -> None:
        """Check, then write. Raises ApiError with all findings, TemporaryFailure."""
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        require_still(preconditions.why_not(preconditions.DEPLOY, seen))
        settings = await check_settings(self._services, seen, NodeKind.DATA)
        if errors := (*await self._findings(seen), *settings.errors):
            refuse(errors, settings.silence)
        # Tokens of an earlier preparation are not valid for this one.
        await self._services.store.delete_prefix(keys.JOINS)
        await cluster_record(self._services.store).update(
            self._prepared, guards=[ctx.guard], idempotent=True
        )

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: the write comes last."""

    async def _findings(self, seen: Observation) -> tuple[LocalizableMessage, ...]:
        passive, witness = self._wishes()
        return (
            *await active_findings(self._services, seen, self._spec),
            *await check_addresses(self._services, seen, passive),
            *await check_addresses(self._services, seen, witness),
        )

    def _wishes(self) -> tuple[NodeRequest, NodeRequest]:
        passive, witness = self._spec.passive, self._spec.witness
        return (
            NodeRequest(
                path="spec.passive.",
                kind=NodeKind.DATA,
                placement=None,
                ha_ip=passive.ha_ip,
                failover_ip=passive.failover_ip,
                token="",
            ),
            NodeRequest(
                path="spec.witness.",
                kind=NodeKind.WITNESS,
                placement=None,
                ha_ip=witness.ha_ip,
                failover_ip=None,
                token="",
                taken={"spec.passive.ha_ip": address_text(passive.ha_ip)},
            ),
        )

    def _planned(self, config: ClusterConfig) -> tuple[PlannedNode, ...]:
        passive, witness = self._spec.passive, self._spec.witness
        return (
            PlannedNode(
                kind=NodeKind.DATA,
                ha_ip=passive.ha_ip,
                failover_ip=passive.failover_ip or config.management,
            ),
            PlannedNode(kind=NodeKind.WITNESS, ha_ip=witness.ha_ip),
        )

    def _prepared(self, config: ClusterConfig) -> ClusterConfig:
        return msgspec.structs.replace(
            config, state=ConfigState.PREPARED, deployment="MANUAL", planned=self._planned(config)
        )


async def active_findings(
    services: Services, seen: Observation, spec: DeploySpec
) -> tuple[LocalizableMessage, ...]:
    """Return the findings for the active, whose network exists and can only be confirmed."""
    wanted = spec.active
    if wanted.ha_network is None or seen.active is None:
        return ()
    inventory = await services.infrastructure.inventory()
    vm = inventory.vm(seen.active.config.vm)
    network = inventory.network(vm.networks.ha if vm else None)
    path = "spec.active.ha_network"
    if wanted.ha_network_type is None:
        said = message("placement.network.type.missing", f"{path}_type", wanted.ha_network)
    elif network is None:
        return ()
    elif wanted.ha_network != network.id:
        said = message("deploy.active.network", path, network.id)
    elif wanted.ha_network_type.value != network.type.value:
        kinds = (wanted.ha_network_type, network.id, network.type)
        said = message("placement.network.type.mismatch", f"{path}_type", *kinds)
    else:
        return ()
    return (said,)
