"""Creation of a node: its VM at its placement, its start, its vote. The step is called `clone`."""

import asyncio
import contextlib

import msgspec

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership, patroni_client
from openvcha.cluster.config import NodeKind, cluster_record
from openvcha.cluster.store_accounts import remove_unknown_accounts
from openvcha.infrastructure.interface import NodeRequest, Power
from openvcha.node.etcd.account import NodeAccount
from openvcha.operations.context import Services
from openvcha.operations.steps.bootstrap_files import files_of
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.new_node import (
    ROLES,
    NewNode,
    committed,
    in_service,
    leads,
    recall,
    remember,
)
from openvcha.operations.steps.node_vms import (
    HOST_SILENT,
    RemovedNode,
    create_vm,
    owe_deletion,
    withdraw_vm,
    write_files,
)
from openvcha.operations.steps.quorum import remove_voter
from openvcha.operations.steps.required_votes import initial_required_votes, record_required_votes
from openvcha.operations.waiting import wait_until
from openvcha.store import keys
from openvcha.store.interface import Member
from openvcha.tasks.steps import Step, TaskContext, TemporaryFailure
from openvcha.tasks.transient import WaitTimedOut

PROMOTE_SECONDS = 60.0
POLL_SECONDS = 1.0


class CreateNode(Step):
    """The step that creates a VM, registers it as a learner, powers it on and promotes it."""

    weight = 10

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role
        self._looked = 0.0
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
        vm = await create_vm(
            ctx,
            services.infrastructure,
            NodeRequest(placement=node.placement, token=node.token, addresses=(node.ha_address,)),
        )
        state = await services.infrastructure.node(vm)
        node = msgspec.structs.replace(node, vm=vm, bios_uuid=state.bios_uuid)
        await remember(ctx, self._role, node)
        await record_required_votes(services, ctx)
        await self._register(ctx, node)
        await self._start(ctx, node, vm, state.power)
        await wait_until(ctx, lambda: self._not_voting(node), PROMOTE_SECONDS, fraction=0.5)
        await services.store.refresh_endpoints()

    async def undo(self, ctx: TaskContext) -> None:
        """Delete the incomplete node and its vote, unless the cluster depends on it."""
        if self._role not in ctx.state or await committed(self._services, ctx, self._role):
            return
        node = recall(ctx, self._role)
        if await leads(self._services, node):
            await self._adopt(ctx, node)
            return
        await self._rely_still(ctx, node)
        if node.kind is NodeKind.DATA:
            await self._bar(node)
        await self._delete(ctx, node)

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

    async def _rely_still(self, ctx: TaskContext, node: NewNode) -> None:
        """Record the required votes while the new node may vote, if that is possible.

        If it is not, its vote must be removed anyway: otherwise it would be needed forever.
        """
        if await self._member(node):
            with contextlib.suppress(WaitTimedOut):
                await record_required_votes(self._services, ctx)

    async def _adopt(self, ctx: TaskContext, node: NewNode) -> None:
        """Commit a node that has taken over meanwhile: its writes must not be lost."""
        old = str(ctx.state.get("old") or "") or None
        await cluster_record(self._services.store).update(
            lambda config: config.with_replaced(old, node.configured()),
            guards=[ctx.guard],
            idempotent=True,
        )

    async def _bar(self, node: NewNode) -> None:
        """Prevent a takeover during the deletion, which would lose writes."""
        name = node.placement.name
        if refusal := last_copy(await self._services.observe(), node.member, name):
            raise TemporaryFailure(refusal.reason)
        if not await patroni_client.revoke_candidacy(self._services.store, node.member):
            raise TemporaryFailure(message("fence.still.in.sync", name))

    async def _delete(self, ctx: TaskContext, node: NewNode) -> None:
        """Remove the vote while the node runs, then delete it: with two voters, both must agree."""
        services = self._services
        url = services.peer_url(node.ha_address)
        await remove_voter(services, node.placement.name, node.member, url)
        if owed := await withdraw_vm(services.infrastructure, node.token):
            name, data = node.placement.name, node.kind is NodeKind.DATA
            removed = RemovedNode(owed, name, node.member, data)
            if not await owe_deletion(services, ctx, removed, HOST_SILENT):
                raise TemporaryFailure(message("clone.left", name, owed))
            await ctx.add_reason(message("clone.owed", name, owed))
        await services.store.delete(keys.patroni_member(node.member))
        await services.store.delete(keys.base_backup_report(node.member))

    async def _register(self, ctx: TaskContext, node: NewNode) -> None:
        services = self._services
        config = await services.observer.config()
        made = [recall(ctx, role) for role in ctx.state if role in ROLES]
        names = {n.member for n in config.nodes} | {n.member for n in made}
        names |= {n.member for n in config.planned}
        urls = {services.peer_url(n.ha_address) for n in made}
        await membership.remove_unknown(services.store, names, urls)
        witnesses = {n.member for n in config.nodes if n.kind is NodeKind.WITNESS}
        witnesses |= {n.member for n in made if n.kind is NodeKind.WITNESS}
        witnesses |= {n.member for n in config.planned if n.kind is NodeKind.WITNESS and n.member}
        own = NodeAccount(services.directory)
        await remove_unknown_accounts(services.store, own, witnesses)
        await services.register(
            {one.member: one.ha_address for one in made if one.kind is NodeKind.DATA}
        )
        url = services.peer_url(node.ha_address)
        await membership.ensure_learner(services.store, node.member, url)

    async def _start(self, ctx: TaskContext, node: NewNode, vm: str, power: Power) -> None:
        """Power the node on. If it is off, write its identity first: a running one has read it."""
        infrastructure = self._services.infrastructure
        if power is not Power.ON:
            files = await files_of(self._services, node)
            files |= await initial_required_votes(self._services, ctx)
            await write_files(infrastructure, vm, node.placement.name, files)
        await infrastructure.power_on(vm)

    async def _votes(self, node: NewNode) -> bool:
        found = await self._member(node)
        return found is not None and bool(found.name) and not found.learner

    async def _member(self, node: NewNode) -> Member | None:
        url = self._services.peer_url(node.ha_address)
        return await membership.find_member(self._services.store, node.member, url)

    async def _not_voting(self, node: NewNode) -> LocalizableMessage | None:
        url = self._services.peer_url(node.ha_address)
        if await membership.promote(self._services.store, node.member, url):
            return None
        await self._keep_on(node)
        return message("progress.promote", node.placement.name)

    async def _keep_on(self, node: NewNode) -> None:
        """Power an incomplete node on again if it went off; it resumes."""
        now = asyncio.get_running_loop().time()
        if not node.vm or now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        if (await self._services.infrastructure.node(node.vm)).power is Power.OFF:
            await self._services.infrastructure.power_on(node.vm)
