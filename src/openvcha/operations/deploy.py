"""Deploy: from a single active node to a cluster of three, by a task."""

from collections.abc import Sequence

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import (
    ClusterMode,
    ConfigState,
    DeploySpec,
    DeployType,
    LocalizableMessage,
)
from openvcha.cluster import preconditions
from openvcha.cluster.config import (
    ClusterConfig,
    NodeConfig,
    NodeKind,
    address_text,
    cluster_record,
)
from openvcha.cluster.observing.observation import Observation
from openvcha.infrastructure.addresses import address_of
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.peers.check import check_peer, require_usable_peer
from openvcha.operations.preconditions import (
    require_operation,
    require_still,
    require_unhindered,
)
from openvcha.operations.steps.address import AwaitAddress
from openvcha.operations.steps.base_backup import AwaitBaseBackup
from openvcha.operations.steps.check import (
    CheckResult,
    NodeRequest,
    check,
    refuse,
    require_one_datastore,
)
from openvcha.operations.steps.commit import Commit
from openvcha.operations.steps.creation.create_node import CreateNode
from openvcha.operations.steps.new_node import PASSIVE, ROLES, WITNESS, recall, remember
from openvcha.operations.steps.prepare import Prepare, active_findings
from openvcha.operations.steps.streaming import AwaitStreaming
from openvcha.operations.targets import vm_target
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

SERVICE = "com.vmware.vcenter.vcha.cluster"


async def deploy(services: Services, caller: Caller, spec: DeploySpec) -> str:
    """Create the task of a deployment, after checks of the spec, the state and the peer."""
    _require_placements(spec)
    for path, address in (
        ("active.ha_ip", spec.active.ha_ip),
        ("passive.ha_ip", spec.passive.ha_ip),
        ("passive.failover_ip", spec.passive.failover_ip),
        ("witness.ha_ip", spec.witness.ha_ip),
    ):
        if address is not None:
            address_of(address, f"spec.{path}")
    own = services.identity.ha_address
    if address_of(spec.active.ha_ip, "spec.active.ha_ip").address != own:
        said = message("deploy.active.ha", "spec.active.ha_ip", own)
        raise ApiError(ErrorType.INVALID_ARGUMENT, said)
    require_usable_peer(spec.vc_spec)
    seen = await require_operation(services, preconditions.DEPLOY)
    await check_peer(services, seen, spec.vc_spec)
    active = seen.active
    task = await services.journal.create(
        service=SERVICE,
        operation="deploy$task",
        description=message("cluster.deploy"),
        user=caller.user,
        target=vm_target(active.config if active else None),
        arguments=msgspec.structs.replace(spec, vc_spec=None),
    )
    return task.id


def _require_placements(spec: DeploySpec) -> None:
    """Require placements for both nodes, or for neither if an administrator creates them."""
    manual = spec.deployment is DeployType.MANUAL
    said = "deploy.placement.set" if manual else "deploy.placement.unset"
    wrong = [
        message(said, f"spec.{role}.placement")
        for role, node in ((PASSIVE, spec.passive), (WITNESS, spec.witness))
        if (node.placement is None) is not manual
    ]
    if wrong:
        raise ApiError(ErrorType.INVALID_ARGUMENT, *wrong)


def deploy_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a deploy task."""
    spec = msgspec.convert(record.arguments, DeploySpec)
    if spec.deployment is DeployType.MANUAL:
        return (Prepare(services, spec),)
    return (
        CheckBoth(services, spec),
        CreateNode(services, PASSIVE),
        CreateNode(services, WITNESS),
        AwaitBaseBackup(services, PASSIVE),
        AwaitStreaming(services, PASSIVE),
        Commit(services, (PASSIVE, WITNESS), _configured),
        AwaitAddress(services),
    )


class CheckBoth(Step):
    """The step that decides both nodes, or reports the findings of both at once."""

    name = "check"
    weight = 2

    def __init__(self, services: Services, spec: DeploySpec) -> None:
        self._services = services
        self._spec = spec

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether both are decided; the decision is final."""
        return PASSIVE in ctx.state and WITNESS in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Check both nodes. Raises ApiError, TemporaryFailure."""
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        require_still(preconditions.why_not(preconditions.DEPLOY, seen))
        await require_unhindered(self._services, ctx.record.id)
        await require_one_datastore(self._services, seen)
        passive, witness = await self._verdicts(seen, ctx.record.id)
        active = await active_findings(self._services, seen, self._spec)
        errors = (*active, *passive.errors, *witness.errors, *self._same_name())
        if errors or passive.node is None or witness.node is None:
            refuse(errors, passive.silence)
        await remember(ctx, PASSIVE, passive.node)
        await remember(ctx, WITNESS, witness.node)

    async def undo(self, ctx: TaskContext) -> None:
        """Set the state to INVALID if other steps could not be undone; this runs last.

        A state that was INVALID before stays INVALID; a committed one stays CONFIGURED.
        """
        nodes = [recall(ctx, role) for role in ROLES if role in ctx.state]
        left = [await self._services.infrastructure.find(node.token) for node in nodes]
        # What is owed is deleted later: it does not hinder the next deployment.
        owed = {one.vm for one in (await self._services.observe()).owed}
        if any(creation.vm not in owed for creation in left if creation):
            await cluster_record(self._services.store).update(
                _half_made, guards=[ctx.guard], idempotent=True
            )

    async def _verdicts(self, seen: Observation, token: str) -> tuple[CheckResult, CheckResult]:
        wanted = self._spec.passive
        if wanted.placement is None or self._spec.witness.placement is None:
            raise ApiError(ErrorType.INVALID_ARGUMENT, message("check.refused"))
        passive = await check(
            self._services,
            seen,
            NodeRequest(
                path="spec.passive.",
                kind=NodeKind.DATA,
                placement=wanted.placement,
                ha_ip=wanted.ha_ip,
                failover_ip=wanted.failover_ip,
                token=f"{token}/{PASSIVE}",
            ),
        )
        chosen = passive.node
        witness = await check(
            self._services,
            seen,
            NodeRequest(
                path="spec.witness.",
                kind=NodeKind.WITNESS,
                placement=self._spec.witness.placement,
                ha_ip=self._spec.witness.ha_ip,
                failover_ip=None,
                token=f"{token}/{WITNESS}",
                taken={"spec.passive.ha_ip": address_text(wanted.ha_ip)},
                avoid_hosts=frozenset({chosen.placement.host} if chosen else ()),
            ),
        )
        return passive, witness

    def _same_name(self) -> tuple[LocalizableMessage, ...]:
        passive, witness = self._spec.passive.placement, self._spec.witness.placement
        if passive is None or witness is None or passive.name.lower() != witness.name.lower():
            return ()
        return (message("check.duplicate.name", "spec.witness.placement.name", witness.name),)


def _half_made(config: ClusterConfig) -> ClusterConfig:
    if config.state is not ConfigState.NOTCONFIGURED:
        return config
    return msgspec.structs.replace(config, state=ConfigState.INVALID)


def _configured(
    config: ClusterConfig, nodes: Sequence[NodeConfig], old: str | None
) -> ClusterConfig:
    for node in nodes:
        config = config.with_replaced(old, node)
    return msgspec.structs.replace(
        config,
        state=ConfigState.CONFIGURED,
        deployment="AUTO",
        mode=ClusterMode.ENABLED,
        planned=(),
    )
