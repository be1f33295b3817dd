"""Creation of a node: its VM at its placement, its start, its vote. The step is called `clone`.

The node gets a boot file, and from the API everything else. It starts while it is registered: it
joins once that is done.
"""

import asyncio
import contextlib

import msgspec

from openvcha.api.errors import ApiError
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.config import NodeKind
from openvcha.infrastructure.interface import NodeRequest, Power
from openvcha.operations.context import Services
from openvcha.operations.steps.creation.boot import boot_is_used, forget_boot, new_boot
from openvcha.operations.steps.new_node import NewNode, in_service, recall, remember
from openvcha.operations.steps.node_vms import (
    HOST_SILENT,
    RemovedNode,
    bootstrap_note,
    create_vm,
    owe_deletion,
    withdraw_vm,
)
from openvcha.operations.steps.votes.new_voter import NewVoter
from openvcha.operations.steps.votes.required_votes import record_required_votes
from openvcha.operations.waiting import wait_until
from openvcha.tasks.steps import TaskContext

PROMOTE_SECONDS = 60.0
POLL_SECONDS = 1.0


class CreateNode(NewVoter):
    """The step that creates a VM, powers it on, registers it as a learner and promotes it."""

    def __init__(self, services: Services, role: str) -> None:
        super().__init__(services, role)
        self._looked = 0.0
        self._note: str | None = None
        self.name = f"clone.{role}"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether etcd has a voter of that name and its VM is powered on."""
        if await in_service(self._services, ctx, self._role):
            return True
        node = recall(ctx, self._role)
        if node.vm is None or not await self._votes(node):
            return False
        return (await self._services.infrastructure.node(node.vm)).power is Power.ON

    async def act(self, ctx: TaskContext) -> None:
        """Create the node; each part reuses the work of an earlier attempt."""
        node = recall(ctx, self._role)
        services = self._services
        await ctx.progress(0.0, message("progress.clone", node.placement.name))
        # Before the VM exists: if our own disk is full, there is nothing to roll back yet.
        await record_required_votes(services, ctx)
        vm = await self._create(ctx, node)
        state = await services.infrastructure.node(vm)
        node = msgspec.structs.replace(node, vm=vm, bios_uuid=state.bios_uuid)
        await remember(ctx, self._role, node)
        await record_required_votes(services, ctx)
        await self._start_and_register(ctx, node, vm)
        await wait_until(ctx, lambda: self._not_voting(node), PROMOTE_SECONDS, fraction=0.5)
        await services.store.refresh_endpoints()
        await forget_boot(services, self._role)

    async def undo(self, ctx: TaskContext) -> None:
        """Delete the incomplete node and its vote, unless the cluster depends on it."""
        # First, so that it gets no account that nobody would delete.
        await forget_boot(self._services, self._role)
        await super().undo(ctx)

    async def remains(self, ctx: TaskContext) -> LocalizableMessage | None:
        """Return the VM that is left, and whether its vote still counts."""
        if self._role not in ctx.state:
            return None
        node = recall(ctx, self._role)
        left = await self._services.infrastructure.find(node.token)
        if left is None:
            return None
        said = "clone.left.votes" if await self._member(node) else "clone.left"
        return message(said, node.placement.name, left.vm or left.id)

    async def _withdraw(self, ctx: TaskContext, node: NewNode) -> LocalizableMessage | None:
        """Delete its VM; if its host does not respond, the deletion is owed."""
        owed = await withdraw_vm(self._services.infrastructure, node.token)
        if not owed:
            return None
        name = node.placement.name
        removed = RemovedNode(owed, name, node.member, node.kind is NodeKind.DATA)
        if not await owe_deletion(self._services, ctx, removed, HOST_SILENT):
            return message("clone.left", name, owed)
        await ctx.add_reason(message("clone.owed", name, owed))
        return None

    async def _create(self, ctx: TaskContext, node: NewNode) -> str:
        """Create the VM, or continue its creation, and return its identifier."""
        services = self._services
        has_boot = await self._has_boot(ctx, node)
        boot = None if has_boot else await new_boot(services, ctx, self._role, node)
        request = NodeRequest(
            placement=node.placement, token=node.token, addresses=(node.ha_address,), boot=boot
        )
        return await create_vm(ctx, services.infrastructure, request)

    async def _has_boot(self, ctx: TaskContext, node: NewNode) -> bool:
        """Return whether the node may have read its boot file, which then stays as it is."""
        infrastructure = self._services.infrastructure
        found = await infrastructure.find(node.token)
        if found is None or found.vm is None:
            return False
        if not (await infrastructure.node(found.vm)).power.certainly_off:
            return True
        return await boot_is_used(self._services, ctx, self._role)

    async def _start_and_register(self, ctx: TaskContext, node: NewNode, vm: str) -> None:
        """Power the node on; make the store expect it meanwhile, since a start takes longer."""
        registering = asyncio.create_task(self._register(ctx, node), name="register")
        try:
            await self._services.infrastructure.power_on(vm)
            await registering
        finally:
            registering.cancel()
            await asyncio.wait([registering])

    async def _not_voting(self, node: NewNode) -> LocalizableMessage | None:
        if await self._promote(node):
            return None
        await self._look(node)
        if self._note:
            return message("progress.bootstrap", node.placement.name, self._note)
        return message("progress.promote", node.placement.name)

    async def _look(self, node: NewNode) -> None:
        """Read what the node waits for. If it went off, power it on again; it resumes."""
        now = asyncio.get_running_loop().time()
        if not node.vm or now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        infrastructure = self._services.infrastructure
        if (await infrastructure.node(node.vm)).power is Power.OFF:
            await infrastructure.power_on(node.vm)
        with contextlib.suppress(ApiError, OSError):
            self._note = await bootstrap_note(infrastructure, node.vm)
