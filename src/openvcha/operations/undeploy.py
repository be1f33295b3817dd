"""Undeploy: from a cluster of three to a single node, by a task.

Writers are not affected: the votes are removed first, while the standby still protects commits;
then no other node can take over, commits stop waiting, and the other nodes are powered off.
"""

from collections.abc import Sequence

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage, NodeVmInfo, UndeploySpec
from openvcha.cluster import preconditions
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.observing.observation import Observation
from openvcha.infrastructure.inventory import Inventory
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.peers.check import check_peer, require_usable_peer
from openvcha.operations.preconditions import require_operation, require_still
from openvcha.operations.redeploy import CLUSTER
from openvcha.operations.steps.leaving.nodes import LeavingNodes, remember_leaving
from openvcha.operations.steps.leaving.removed_access import EraseIdentities, RotateCredentials
from openvcha.operations.steps.leaving.undeploy_steps import (
    ReduceCluster,
    ReleaseStandby,
    RemoveVotes,
)
from openvcha.operations.targets import vm_target
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext


async def undeploy(services: Services, caller: Caller, spec: UndeploySpec) -> str:
    """Create the task of an undeploy, after checks of the state, the peer and the VMs.

    Raises ApiError NOT_FOUND for an unknown VM, INVALID_ARGUMENT for one that is not the node's,
    and as ``check_peer`` does.
    """
    require_usable_peer(spec.vc_spec)
    seen = await require_operation(services, preconditions.UNDEPLOY)
    await check_peer(services, seen, spec.vc_spec, unmanaged=ErrorType.NOT_FOUND)
    await require_vms(services, seen, spec)
    await require_renewable(services)
    active = seen.active
    task = await services.journal.create(
        service=CLUSTER,
        operation="undeploy$task",
        description=message("cluster.undeploy"),
        user=caller.user,
        target=vm_target(active.config if active else None),
        arguments=msgspec.structs.replace(spec, vc_spec=None),
    )
    return task.id


def undeploy_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of an undeploy task."""
    spec = msgspec.convert(record.arguments, UndeploySpec)
    return (
        CheckLeaving(services, spec),
        RemoveVotes(services),
        ReleaseStandby(services),
        EraseIdentities(services),
        RotateCredentials(services),
        ReduceCluster(services),
    )


class CheckLeaving(Step):
    """The step that decides which nodes leave, and whether their VMs are deleted.

    It is the only step that may be canceled: a removed vote is not restored.
    """

    name = "check"

    def __init__(self, services: Services, spec: UndeploySpec) -> None:
        self._services = services
        self._spec = spec

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether that is decided; the decision is final."""
        return "leaving" in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Repeat the checks that preceded the task."""
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        require_still(preconditions.why_not(preconditions.UNDEPLOY, seen))
        await require_vms(self._services, seen, self._spec)
        await require_renewable(self._services)
        await remember_leaving(ctx, leaving(seen, self._spec))

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""


def leaving(seen: Observation, spec: UndeploySpec) -> LeavingNodes:
    """Return the nodes that leave, including those that have joined a prepared cluster.

    Only the VMs of an automatic deployment are deleted.
    """
    wanted = bool(spec.force_delete) or spec.vms is not None
    others = [node.config for node in seen.nodes if node.config.member != seen.leader]
    joined = [place.to_config() for place in seen.config.planned if place.member]
    return LeavingNodes(
        stays=seen.leader or "",
        nodes=(*others, *joined),
        delete=wanted and seen.config.deployment == "AUTO",
    )


async def require_vms(services: Services, seen: Observation, spec: UndeploySpec) -> None:
    """Raise ApiError if ``vms`` is relevant and does not name the VMs of both nodes."""
    if spec.force_delete or spec.vms is None:
        return
    inventory = await services.infrastructure.inventory()
    passive, witness = seen.passive, seen.witness
    named = (
        ("spec.vms.passive", spec.vms.passive, passive.config if passive else None),
        ("spec.vms.witness", spec.vms.witness, witness.config if witness else None),
    )
    unknown = [said for path, vm, _ in named if (said := _unknown(path, vm, inventory))]
    if unknown:
        raise ApiError(ErrorType.NOT_FOUND, *unknown)
    wrong = [said for path, vm, node in named if (said := _mismatch(path, vm, node, inventory))]
    if wrong:
        raise ApiError(ErrorType.INVALID_ARGUMENT, *wrong)


async def require_renewable(services: Services) -> None:
    """Raise ApiError if the active would reject new passwords.

    The rotation comes late in an undeploy: it must not fail once the other nodes are removed.
    """
    try:
        await services.postgres.test_password_change(services.identity.ha_address)
    except PostgresUnreachable as error:
        said = message("undeploy.not.renewable", services.identity.name, error)
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said) from error


def _unknown(path: str, named: NodeVmInfo, inventory: Inventory) -> LocalizableMessage | None:
    if inventory.vm(named.vm) is None:
        return message("undeploy.vm.unknown", f"{path}.vm", named.vm)
    return None


def _mismatch(
    path: str, named: NodeVmInfo, node: NodeConfig | None, inventory: Inventory
) -> LocalizableMessage | None:
    role = path.rpartition(".")[2]
    if node is None or named.vm != node.vm:
        return message("undeploy.vm.other", f"{path}.vm", named.vm, role)
    vm = inventory.vm(named.vm)
    if vm is None or named.bios_uuid.casefold() != vm.bios_uuid.casefold():
        return message("undeploy.vm.uuid", f"{path}.bios_uuid", named.vm)
    return None
