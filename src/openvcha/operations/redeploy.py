"""Redeploy: check, fence, create, base backup, streaming, commit, address. A witness has no data.

Refusals that do not depend on the inventory precede the task's creation; the task's first step
runs the same check as the check operation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from openvcha.api.errors import ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import (
    IpSpec,
    LocalizableMessage,
    PassiveCheckResult,
    PassiveCheckSpec,
    PassiveRedeploySpec,
    WitnessCheckResult,
    WitnessCheckSpec,
    WitnessRedeploySpec,
)
from openvcha.cluster import preconditions
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind
from openvcha.cluster.findings import health
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.infrastructure.addresses import address_of
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.peers.check import check_peer, require_usable_peer
from openvcha.operations.preconditions import (
    hindrances,
    require_operation,
    require_still,
    require_unhindered,
    settled,
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
from openvcha.operations.steps.fence import Fence
from openvcha.operations.steps.new_node import PASSIVE, WITNESS, remember
from openvcha.operations.steps.streaming import AwaitStreaming
from openvcha.operations.targets import vm_target
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

CLUSTER = "com.vmware.vcenter.vcha.cluster"

RedeploySpec = PassiveRedeploySpec | WitnessRedeploySpec


@dataclass(frozen=True)
class Replacement:
    """What is replaced: its role, the operation, and how to find the old node."""

    role: str
    kind: NodeKind
    operation: str
    old: Callable[[Observation], NodeObservation | None]


OF_PASSIVE = Replacement(
    PASSIVE, NodeKind.DATA, preconditions.REDEPLOY_PASSIVE, lambda seen: seen.passive
)
OF_WITNESS = Replacement(
    WITNESS, NodeKind.WITNESS, preconditions.REDEPLOY_WITNESS, lambda seen: seen.witness
)


async def check_passive(
    services: Services, caller: Caller, spec: PassiveCheckSpec
) -> PassiveCheckResult:
    """Return the errors that would make a redeploy fail, and the warnings."""
    del caller
    wanted = PassiveRedeploySpec(placement=spec.placement, vc_spec=spec.vc_spec)
    errors, warnings = await _findings(services, OF_PASSIVE, wanted)
    return PassiveCheckResult(warnings=warnings, errors=errors)


async def check_witness(
    services: Services, caller: Caller, spec: WitnessCheckSpec
) -> WitnessCheckResult:
    """Return the errors that would make a redeploy of the witness fail, and the warnings."""
    del caller
    wanted = WitnessRedeploySpec(placement=spec.placement, vc_spec=spec.vc_spec)
    errors, warnings = await _findings(services, OF_WITNESS, wanted)
    return WitnessCheckResult(warnings=warnings, errors=errors)


async def redeploy_passive(services: Services, caller: Caller, spec: PassiveRedeploySpec) -> str:
    """Create the task of a redeploy of the passive, and return its id."""
    return await _begin_task(services, caller, OF_PASSIVE, spec)


async def redeploy_witness(services: Services, caller: Caller, spec: WitnessRedeploySpec) -> str:
    """Create the task of a redeploy of the witness, and return its id."""
    return await _begin_task(services, caller, OF_WITNESS, spec)


def passive_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a redeploy of the passive."""
    spec = msgspec.convert(record.arguments, PassiveRedeploySpec)
    return (
        CheckRedeploy(services, OF_PASSIVE, spec),
        Fence(services, PASSIVE, OF_PASSIVE.operation),
        CreateNode(services, PASSIVE),
        AwaitBaseBackup(services, PASSIVE),
        AwaitStreaming(services, PASSIVE),
        Commit(services, (PASSIVE,), _replaced),
        AwaitAddress(services),
    )


def witness_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a redeploy of the witness, which is complete once it votes."""
    spec = msgspec.convert(record.arguments, WitnessRedeploySpec)
    return (
        CheckRedeploy(services, OF_WITNESS, spec),
        Fence(services, WITNESS, OF_WITNESS.operation),
        CreateNode(services, WITNESS),
        Commit(services, (WITNESS,), _replaced),
        AwaitAddress(services),
    )


class CheckRedeploy(Step):
    """The step that decides the new node, or reports every finding that forbids it."""

    name = "check"
    weight = 2

    def __init__(self, services: Services, which: Replacement, spec: RedeploySpec) -> None:
        self._services = services
        self._which = which
        self._spec = spec

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the new node is decided; the decision is final."""
        return self._which.role in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Check as the check operation does. Raises ApiError, TemporaryFailure."""
        which = self._which
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        require_still(preconditions.why_not(which.operation, seen))
        await require_unhindered(self._services, ctx.record.id)
        await require_one_datastore(self._services, seen)
        verdict = await _verdict(self._services, seen, which, self._spec, ctx.record.id)
        if verdict.node is None:
            refuse(verdict.errors, verdict.silence)
        old = _config(which.old(seen))
        await ctx.remember(old=old.member if old else "", old_vm=old.vm if old else "")
        await remember(ctx, which.role, verdict.node)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""


async def _findings(
    services: Services, which: Replacement, spec: RedeploySpec
) -> tuple[tuple[LocalizableMessage, ...], tuple[LocalizableMessage, ...]]:
    """Return errors and warnings. Raises ApiError when there is nothing to replace."""
    require_usable_peer(spec.vc_spec)
    seen, refusal = await settled(services, partial(preconditions.why_not, which.operation))
    # Without a cluster or an active there is nothing to check; anything else is a finding.
    if refusal is not None and not (health.deployed(seen) and seen.active):
        raise refusal.error
    await check_peer(services, seen, spec.vc_spec, unmanaged=ErrorType.NOT_FOUND)
    await require_one_datastore(services, seen)
    verdict = await _verdict(services, seen, which, spec, "")
    first = (*((refusal.reason,) if refusal else ()), *await hindrances(services))
    return (*first, *verdict.errors), verdict.warnings


async def _begin_task(
    services: Services, caller: Caller, which: Replacement, spec: RedeploySpec
) -> str:
    """Check the spec, the peer and the state, then create the task."""
    for name, address in (("ha_ip", spec.ha_ip), ("failover_ip", _failover_ip(spec))):
        if address is not None:
            address_of(address, f"spec.{name}")
    require_usable_peer(spec.vc_spec)
    seen = await require_operation(services, which.operation)
    await check_peer(services, seen, spec.vc_spec)
    old = _config(which.old(seen))
    task = await services.journal.create(
        service=f"{CLUSTER}.{which.role}",
        operation="redeploy$task",
        description=message(f"{which.role}.redeploy"),
        user=caller.user,
        target=vm_target(old),
        # The peer's credentials have been used; they are never stored.
        arguments=msgspec.structs.replace(spec, vc_spec=None),
    )
    return task.id


async def _verdict(
    services: Services, seen: Observation, which: Replacement, spec: RedeploySpec, token: str
) -> CheckResult:
    wish = NodeRequest(
        path="spec.",
        kind=which.kind,
        placement=spec.placement,
        ha_ip=spec.ha_ip,
        failover_ip=_failover_ip(spec),
        token=token,
        replaces=_config(which.old(seen)),
    )
    return await check(services, seen, wish)


def _failover_ip(spec: RedeploySpec) -> IpSpec | None:
    return spec.failover_ip if isinstance(spec, PassiveRedeploySpec) else None


def _config(node: NodeObservation | None) -> NodeConfig | None:
    return node.config if node else None


def _replaced(config: ClusterConfig, nodes: Sequence[NodeConfig], old: str | None) -> ClusterConfig:
    return config.with_replaced(old, nodes[0])
