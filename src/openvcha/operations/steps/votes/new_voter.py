"""What makes a new node a voter, whoever creates it, and what undoes that."""

import contextlib
from abc import abstractmethod

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership, patroni_client
from openvcha.cluster.config import NodeKind, cluster_record
from openvcha.cluster.store_accounts import remove_unknown_accounts
from openvcha.node.etcd.account import NodeAccount
from openvcha.operations.context import Services
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.new_node import ROLES, NewNode, committed, leads, recall
from openvcha.operations.steps.votes.quorum import remove_voter
from openvcha.operations.steps.votes.required_votes import record_required_votes
from openvcha.store import keys
from openvcha.store.interface import Member
from openvcha.tasks.steps import Step, TaskContext, TemporaryFailure
from openvcha.tasks.transient import WaitTimedOut


class NewVoter(Step):
    """A step that registers a new node as a learner, and promotes it once it has joined."""

    weight = 10

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role

    async def undo(self, ctx: TaskContext) -> None:
        """Remove the incomplete node and its vote, unless the cluster depends on it."""
        if self._role not in ctx.state or await committed(self._services, ctx, self._role):
            return
        node = recall(ctx, self._role)
        if await leads(self._services, node):
            await self._adopt(ctx, node)
            return
        await self._rely_still(ctx, node)
        if node.kind is NodeKind.DATA:
            await self._bar(node)
        await self._remove(ctx, node)

    @abstractmethod
    async def _withdraw(self, ctx: TaskContext, node: NewNode) -> LocalizableMessage | None:
        """End a node that has no vote any more; return why that must be tried again."""

    async def _remove(self, ctx: TaskContext, node: NewNode) -> None:
        """Remove the vote while the node runs: with two voters, both must agree."""
        services = self._services
        url = services.peer_url(node.ha_address)
        await remove_voter(services, node.placement.name, node.member, url)
        reason = await self._withdraw(ctx, node)
        await services.store.delete(keys.patroni_member(node.member))
        await services.store.delete(keys.base_backup_report(node.member))
        if reason:
            raise TemporaryFailure(reason)

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
        """Prevent a takeover during the removal, which would lose writes."""
        name = node.placement.name
        if refusal := last_copy(await self._services.observe(), node.member, name):
            raise TemporaryFailure(refusal.reason)
        if not await patroni_client.revoke_candidacy(self._services.store, node.member):
            raise TemporaryFailure(message("fence.still.in.sync", name))

    async def _register(self, ctx: TaskContext, node: NewNode) -> None:
        """Make the store expect the node; remove what earlier operations may have left there."""
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

    async def _promote(self, node: NewNode) -> bool:
        """Try to make the node a voter; False while it has not started or caught up."""
        url = self._services.peer_url(node.ha_address)
        return await membership.promote(self._services.store, node.member, url)

    async def _votes(self, node: NewNode) -> bool:
        found = await self._member(node)
        return found is not None and bool(found.name) and not found.learner

    async def _member(self, node: NewNode) -> Member | None:
        url = self._services.peer_url(node.ha_address)
        return await membership.find_member(self._services.store, node.member, url)
