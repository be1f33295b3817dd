"""Redeploying the passive: check, fence, clone, copy, join, commit.

Everything that can be refused without looking at the inventory is refused before the task exists;
the task's first step is the very check that the check operation runs.
"""

from collections.abc import Sequence

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import (
    DynamicID,
    PassiveCheckResult,
    PassiveCheckSpec,
    PassiveRedeploySpec,
)
from openvcha.cluster import health, rules
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind
from openvcha.cluster.observation import Observation
from openvcha.infrastructure.addresses import address_of
from openvcha.service.call import Caller
from openvcha.service.check import Verdict, Wish, check
from openvcha.service.clone import Clone
from openvcha.service.commit import Commit
from openvcha.service.context import Services
from openvcha.service.copy import Copy
from openvcha.service.fence import Fence
from openvcha.service.join import Join
from openvcha.service.new_node import PASSIVE, remember
from openvcha.service.trust import check_peer
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

SERVICE = "com.vmware.vcenter.vcha.cluster.passive"


def require(operation: str, seen: Observation) -> None:
    """Raise ApiError NOT_ALLOWED_IN_CURRENT_STATE with the reason, when there is one."""
    if reason := rules.why_not(operation, seen):
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, reason)


async def check_passive(
    services: Services, caller: Caller, spec: PassiveCheckSpec
) -> PassiveCheckResult:
    """Tell all that would make a redeploy fail, and all that is worth a warning."""
    del caller
    seen = await services.observe()
    reason = rules.why_not(rules.REDEPLOY_PASSIVE, seen)
    # Without a cluster or an active there is nothing to check; the rest is a finding of many.
    if reason is not None and not (health.deployed(seen) and seen.active):
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, reason)
    await check_peer(services, seen, spec.vc_spec)
    verdict = await _verdict(services, seen, PassiveRedeploySpec(placement=spec.placement), "")
    refused = (reason,) if reason else ()
    return PassiveCheckResult(warnings=verdict.warnings, errors=(*refused, *verdict.errors))


async def redeploy_passive(services: Services, caller: Caller, spec: PassiveRedeploySpec) -> str:
    """Promise the repair: validate, verify the peer, look at the state, then make the task."""
    for name, address in (("ha_ip", spec.ha_ip), ("failover_ip", spec.failover_ip)):
        if address is not None:
            address_of(address, f"spec.{name}")
    if running := await services.journal.running():
        raise ApiError(
            ErrorType.RESOURCE_BUSY, message("task.busy", running.operation_id, running.id)
        )
    seen = await services.observe()
    require(rules.REDEPLOY_PASSIVE, seen)
    await check_peer(services, seen, spec.vc_spec)
    old = seen.passive
    task = await services.journal.create(
        service=SERVICE,
        operation="redeploy$task",
        description=message("passive.redeploy"),
        user=caller.user,
        target=DynamicID(type="VirtualMachine", id=old.config.vm) if old else None,
        # The peer's credentials were used; nothing of them is kept.
        arguments=msgspec.structs.replace(spec, vc_spec=None),
    )
    return task.id


def redeploy_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Give the steps of a redeploy task."""
    spec = msgspec.convert(record.arguments, PassiveRedeploySpec)
    return (
        CheckPassive(services, spec),
        Fence(services, PASSIVE),
        Clone(services, PASSIVE),
        Copy(services, PASSIVE),
        Join(services, PASSIVE),
        Commit(services, (PASSIVE,), _replaced),
    )


class CheckPassive(Step):
    """What is to be made is decided, and every finding that forbids it is known."""

    name = "check"
    weight = 2

    def __init__(self, services: Services, spec: PassiveRedeploySpec) -> None:
        self._services = services
        self._spec = spec

    async def done(self, ctx: TaskContext) -> bool:
        """Decided once: later steps make that node and no other."""
        return PASSIVE in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Check as the check operation does. Raises ApiError with all findings."""
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        require(rules.REDEPLOY_PASSIVE, seen)
        verdict = await _verdict(self._services, seen, self._spec, ctx.record.id)
        if verdict.node is None:
            raise ApiError(ErrorType.INVALID_ARGUMENT, message("check.refused"), *verdict.errors)
        old = seen.passive.config if seen.passive else None
        await ctx.remember(old=old.member if old else "", old_vm=old.vm if old else "")
        await remember(ctx, PASSIVE, verdict.node)

    async def undo(self, ctx: TaskContext) -> None:
        """Nothing was changed."""


async def _verdict(
    services: Services, seen: Observation, spec: PassiveRedeploySpec, token: str
) -> Verdict:
    wish = Wish(
        path="spec.",
        kind=NodeKind.DATA,
        placement=spec.placement,
        ha_ip=spec.ha_ip,
        failover_ip=spec.failover_ip,
        token=token,
        replaces=seen.passive.config if seen.passive else None,
    )
    return await check(services, seen, wish)


def _replaced(config: ClusterConfig, nodes: Sequence[NodeConfig], old: str | None) -> ClusterConfig:
    return config.replacing(old, nodes[0])
