"""The steps of an undeploy after its check. None can be undone, so none can be canceled."""

import asyncio
from functools import partial

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership, patroni_client, preconditions
from openvcha.cluster.config import NodeConfig, NodeKind, cluster_record
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.infrastructure.interface import Power
from openvcha.operations.context import Services
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.leaving.nodes import LeavingNodes, recall_leaving
from openvcha.operations.steps.leaving.step import OFF_SECONDS, LeavingStep, ReleasingStep
from openvcha.operations.steps.node_vms import (
    HOST_SILENT,
    RemovedNode,
    delete_vm,
    owe_deletion,
    why_left,
)
from openvcha.operations.steps.votes.quorum import (
    SILENT,
    SilenceWatch,
    delete_account_without_vote,
    remove_voter,
)
from openvcha.operations.steps.votes.required_votes import (
    clear_required_votes,
    record_required_votes,
)
from openvcha.operations.waiting import wait_until
from openvcha.store import keys
from openvcha.store.interface import Member
from openvcha.tasks.steps import TaskContext, TemporaryFailure

RELEASE_SECONDS = 60.0
ACTIVE_SECONDS = 300.0
PROBE_SECONDS = 1.0


class RemoveVotes(LeavingStep):
    """The step that removes all other votes; the running standby still protects every commit.

    It comes first: once no other node can take over from the active, commits may stop waiting for
    the standby. Dead voters go first, since each live one is needed to remove the next.
    """

    name = "votes"
    weight = 2

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether etcd has no other member."""
        leaving = recall_leaving(ctx)
        if await self._others(leaving):
            return False
        await self._require_leader(leaving)
        for node in leaving.nodes:
            await delete_account_without_vote(self._services, node.member)
        await clear_required_votes(self._services, ctx)
        return True

    async def act(self, ctx: TaskContext) -> None:
        """Remove one vote after the other. Raises ApiError when another node takes the lead.

        No other node may take it from the last look at the leader until the vote is gone.
        """
        leaving = recall_leaving(ctx)
        await self._require(leaving)
        await record_required_votes(self._services, ctx)
        await membership.ensure_leader(self._services.store, leaving.stays)
        for member in await self._others(leaving):
            name = self._name(leaving, member)
            await ctx.progress(0.5, message("progress.vote", name))
            await self._require(leaving)
            await self._bar(leaving)
            await remove_voter(
                self._services, name, member.name, next(iter(member.peer_urls), None)
            )
        await self._require_leader(leaving)
        # Otherwise a removed node is powered on as soon as our etcd restarts with new certificates.
        await clear_required_votes(self._services, ctx)

    async def _require(self, leaving: LeavingNodes) -> None:
        seen = await self._services.observe()
        if reason := _another(leaving, seen):
            raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, reason)
        # Some votes may be gone already, and there is no way back: wait until the refusal passes.
        if refusal := preconditions.why_not(preconditions.UNDEPLOY, seen):
            raise TemporaryFailure(refusal.reason)

    async def _bar(self, leaving: LeavingNodes) -> None:
        """Prevent a takeover while a vote goes: the new active would lose its own vote.

        Commits still wait for the standby. Patroni enters it in ``/sync`` again a moment later,
        unless its vote is gone. Raises TemporaryFailure when another node leads.
        """
        for node in leaving.nodes:
            if node.kind is NodeKind.DATA and not await patroni_client.revoke_candidacy(
                self._services.store, node.member
            ):
                raise TemporaryFailure(message("fence.still.in.sync", node.name))

    async def _require_leader(self, leaving: LeavingNodes) -> None:
        """Raise ApiError if a leaving node leads: it may have the only copy of some rows."""
        leader = await patroni_client.leader(self._services.store)
        for node in leaving.nodes:
            if node.member == leader:
                said = message("active.is", node.name)
                raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, said)

    async def _others(self, leaving: LeavingNodes) -> list[Member]:
        """Return all other members, even unknown ones; silent ones first."""
        store = self._services.store
        others = [member for member in await store.members() if member.name != leaving.stays]
        answers = [await self._answers(member) for member in others]
        return [member for _, member in sorted(zip(answers, others, strict=True), key=_first)]

    async def _answers(self, member: Member) -> bool:
        urls = () if member.learner else member.client_urls
        return bool(urls) and await self._services.store.healthy(urls[0], PROBE_SECONDS)

    def _name(self, leaving: LeavingNodes, member: Member) -> str:
        known = (node.name for node in leaving.nodes if node.member == member.name)
        return next(known, member.name or ", ".join(member.peer_urls))


class ReleaseStandby(ReleasingStep):
    """The step that lets commits stop waiting for the standby, then powers the leaving nodes off.

    The order matters: a standby that stops while a commit waits for it blocks the writer.
    """

    name = "release"
    weight = 3

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._silence = SilenceWatch(services)

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the leaving nodes are off and unregistered, and the settings final."""
        if await patroni_client.settings(self._services.store) != patroni_client.WITH_STANDBY:
            return False
        off = all(power is not Power.ON for _, power in await self._vms(ctx))
        return off and not await self._registered(ctx) and await self._answering(ctx) is None

    async def act(self, ctx: TaskContext) -> None:
        """Release the standby, wait for PostgreSQL, power off, prepare for a later standby."""
        await ctx.progress(0.0, message("progress.release"))
        await wait_until(ctx, self._holds, RELEASE_SECONDS, fraction=0.3)
        await wait_until(ctx, lambda: self._on(ctx), OFF_SECONDS, fraction=0.6)
        await ctx.remember(**{SILENT: True})
        await self._configure(patroni_client.WITH_STANDBY)

    async def _holds(self) -> LocalizableMessage | None:
        """Release the standby through Patroni; return a message while commits still wait for it."""
        services = self._services
        waiting = message("progress.release")
        await self._configure(patroni_client.WITHOUT_STANDBY)
        if (await patroni_client.sync_state(services.store)).standbys:
            return waiting
        try:
            active = await services.patroni.node(services.identity.ha_address)
        except PatroniUnreachable:
            return waiting
        return waiting if active.synchronous or not active.primary else None

    async def _on(self, ctx: TaskContext) -> LocalizableMessage | None:
        await self._switch_off(ctx)
        answering = await self._answering(ctx)
        for member in await self._registered(ctx):
            await self._services.store.delete(keys.patroni_member(member))
        left = [node.name for node, power in await self._vms(ctx) if power is Power.ON]
        return message("fence.powered.on", ", ".join(left)) if left else answering

    async def _answering(self, ctx: TaskContext) -> LocalizableMessage | None:
        """Return why a manual or unreachable node may still run; it cannot be powered off here."""
        if SILENT in ctx.state:
            return None
        away = {node.member for node, power in await self._vms(ctx) if power is Power.UNKNOWN}
        leaving = recall_leaving(ctx).nodes
        nodes = [node for node in leaving if not node.vm or node.member in away]
        reasons = await asyncio.gather(*(self._silence.unmet(node) for node in nodes))
        return next(filter(None, reasons), None)

    async def _registered(self, ctx: TaskContext) -> list[str]:
        members = [node.member for node in recall_leaving(ctx).nodes]
        found = await self._services.store.prefix(keys.PATRONI_MEMBERS, keys_only=True)
        there = {kv.key.removeprefix(keys.PATRONI_MEMBERS) for kv in found}
        return [member for member in members if member in there]


class ReduceCluster(LeavingStep):
    """The step that reduces the configuration to the active, and deletes VMs if requested."""

    name = "alone"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the configuration is reduced, and nothing to delete is left."""
        leaving = recall_leaving(ctx)
        config = await self._services.observer.config()
        return (
            config == config.reduced_to(leaving.stays)
            and not await self._reports(leaving)
            and not (leaving.delete and await self._may_be_left(ctx))
        )

    async def act(self, ctx: TaskContext) -> None:
        """Reduce the configuration first: only nodes that it does not name may be deleted."""
        leaving = recall_leaving(ctx)
        await ctx.progress(0.0, message("progress.alone"))
        await cluster_record(self._services.store).update(
            lambda config: config.reduced_to(leaving.stays), guards=[ctx.guard], idempotent=True
        )
        for key in await self._reports(leaving):
            await self._services.store.delete(key)
        if leaving.delete:
            await self._delete(ctx, leaving)

    async def _may_be_left(self, ctx: TaskContext) -> bool:
        """Return whether a VM is left; True also if that is unknown: ``act`` reports why."""
        try:
            return bool(await self._vms(ctx))
        except (ApiError, OSError):
            return True

    async def _delete(self, ctx: TaskContext, leaving: LeavingNodes) -> None:
        """Delete the VMs, or report which are left: the cluster is dissolved in any case."""
        left = [await self._delete_one(ctx, node) for node in leaving.nodes]
        await ctx.leave(*filter(None, left))

    async def _delete_one(self, ctx: TaskContext, node: NodeConfig) -> LocalizableMessage | None:
        """Delete a node's VM; return a message if it is left."""
        infrastructure = self._services.infrastructure
        try:
            if node.kind is NodeKind.DATA:
                await wait_until(ctx, partial(self._last_copy, node), ACTIVE_SECONDS)
            if await delete_vm(ctx, infrastructure, node.vm):
                return None
            reason = HOST_SILENT
        except (ApiError, OSError) as error:
            reason = why_left(error)
        removed = RemovedNode(node.vm, node.name, node.member, node.kind is NodeKind.DATA)
        if await owe_deletion(self._services, ctx, removed, reason) and reason == HOST_SILENT:
            return message("undeploy.owed", node.name, node.vm)
        return message("undeploy.left", node.name, node.vm, reason)

    async def _last_copy(self, node: NodeConfig) -> LocalizableMessage | None:
        refusal = last_copy(await self._services.observe(), node.member, node.name)
        return refusal.reason if refusal else None

    async def _reports(self, leaving: LeavingNodes) -> list[str]:
        """Return the keys of the obsolete reports of base backups."""
        members = [leaving.stays, *(node.member for node in leaving.nodes)]
        found = [await self._services.store.get(keys.base_backup_report(name)) for name in members]
        return [kv.key for kv in found if kv is not None]


def _another(leaving: LeavingNodes, seen: Observation) -> LocalizableMessage | None:
    """Return a message if a node other than the one that stays leads; None otherwise."""
    if seen.leader == leaving.stays or seen.active is None:
        return None
    return message("active.is", seen.active.config.name)


def _first(found: tuple[bool, Member]) -> tuple[bool, str]:
    answers, member = found
    return answers, member.name
