"""The task of a manual join: the node becomes a voter; once both are there, the cluster is formed.

In an existing cluster, the node replaces a lost one, as in a redeploy.
"""

from collections.abc import Sequence

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import ClusterMode, ConfigState, JoinRole, LocalizableMessage
from openvcha.cluster import membership, preconditions
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, PlannedNode, cluster_record
from openvcha.cluster.observing.observation import Observation
from openvcha.operations.context import Services
from openvcha.operations.join_tokens import claimed, require_issuer, token_record
from openvcha.operations.preconditions import require_still, require_unhindered
from openvcha.operations.steps.base_backup import AwaitBaseBackup
from openvcha.operations.steps.commit import Commit
from openvcha.operations.steps.fence import Fence
from openvcha.operations.steps.new_node import (
    PASSIVE,
    ROLES,
    WITNESS,
    NewNode,
    in_service,
    leads,
    member_name,
    recall,
    remember,
    unmanaged_placement,
)
from openvcha.operations.steps.streaming import AwaitStreaming
from openvcha.operations.steps.votes.new_voter import NewVoter
from openvcha.operations.steps.votes.quorum import SILENT_SECONDS, SilenceWatch
from openvcha.operations.waiting import wait_until
from openvcha.store.errors import RecordMissing
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

JOINING = "org.openvcha.joining"
JOIN = f"{JOINING}.join"
START_SECONDS = 1800.0
"""How long an administrator may take to start the node; no other operation can run meanwhile."""

_KINDS = {PASSIVE: NodeKind.DATA, WITNESS: NodeKind.WITNESS}
_REDEPLOY = {PASSIVE: preconditions.REDEPLOY_PASSIVE, WITNESS: preconditions.REDEPLOY_WITNESS}


class JoinArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of the task; ``digest`` identifies its token."""

    role: str
    name: str
    digest: str


def join_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a join; those that do not apply have nothing to do."""
    wanted = msgspec.convert(record.arguments, JoinArguments)
    role = wanted.role
    return (
        DecideNode(services, wanted),
        Fence(services, role, _REDEPLOY[role]),
        AwaitVoter(services, role),
        RegisterNode(services, role),
        OnceComplete(AwaitBaseBackup(services, PASSIVE), role, of=PASSIVE),
        OnceComplete(AwaitStreaming(services, PASSIVE), role, of=PASSIVE),
        OnceComplete(CommitJoined(services), role),
    )


class DecideNode(Step):
    """The step that chooses the node that joins, in place of a planned or a lost one."""

    name = "check"

    def __init__(self, services: Services, wanted: JoinArguments) -> None:
        self._services = services
        self._wanted = wanted

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the node is chosen; the choice is final."""
        return self._wanted.role in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Choose the node, if the token is valid still.

        Raises ApiError INVALID_ARGUMENT, NOT_ALLOWED_IN_CURRENT_STATE.
        """
        role = self._wanted.role
        await self._claim_token(ctx)
        seen = await self._services.observe()
        require_still(preconditions.why_not_join(_KINDS[role], seen))
        await require_unhindered(self._services, ctx.record.id)
        if seen.config.state is ConfigState.PREPARED:
            await self._note_other(ctx, seen.config)
            await remember(ctx, role, self._node(ctx, _planned(seen.config, role)))
            return
        old = _old(seen, role)
        await ctx.remember(old=old.member, old_vm=old.vm)
        await remember(ctx, role, self._node(ctx, old))

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""

    async def _claim_token(self, ctx: TaskContext) -> None:
        """Bind the token to this task: it may have been revoked since the task was created."""
        wanted, task = self._wanted, ctx.record.id
        stored = token_record(self._services.store, JoinRole(wanted.role.upper()))
        invalid = ApiError(ErrorType.INVALID_ARGUMENT, message("join.token.invalid", wanted.role))
        known = await stored.read_valid()
        if known is None:
            raise invalid
        claimed(known.value, wanted.digest, task)
        await require_issuer(known.value, self._services.administrator)
        try:
            await stored.update(
                lambda record: claimed(record, wanted.digest, task),
                guards=[ctx.guard],
                idempotent=True,
            )
        except RecordMissing as error:
            raise invalid from error

    def _node(self, ctx: TaskContext, place: PlannedNode | NodeConfig) -> NewNode:
        name = self._wanted.name
        return _manual(place, member_name(name, ctx.record.id), name)

    async def _note_other(self, ctx: TaskContext, config: ClusterConfig) -> None:
        for role in ROLES:
            place = _planned(config, role)
            if place.member:
                await remember(ctx, role, _manual(place, place.member, place.name))


class AwaitVoter(NewVoter):
    """The step that registers a learner and waits until it is started by hand and votes."""

    patience = SILENT_SECONDS

    def __init__(self, services: Services, role: str) -> None:
        super().__init__(services, role)
        self.name = f"admit.{role}"
        self._silence = SilenceWatch(services)

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether etcd has a voter of that name."""
        if await in_service(self._services, ctx, self._role):
            return True
        return await self._votes(recall(ctx, self._role))

    async def act(self, ctx: TaskContext) -> None:
        """Register the node, and wait until an administrator has started it and it votes."""
        node = recall(ctx, self._role)
        await self._register(ctx, node)
        await wait_until(ctx, lambda: self._not_voting(node), START_SECONDS)
        await self._services.store.refresh_endpoints()

    async def _not_voting(self, node: NewNode) -> LocalizableMessage | None:
        if await self._promote(node):
            return None
        found = await membership.find_member(self._services.store, node.member)
        said = "progress.promote" if found else "progress.join.start"
        return message(said, node.placement.name)

    async def _withdraw(self, ctx: TaskContext, node: NewNode) -> LocalizableMessage | None:
        """Wait until it is silent: only an administrator can stop the node."""
        del ctx
        return await self._silence.unmet(node.configured())


class RegisterNode(Step):
    """The step that enters the node in the prepared cluster's configuration."""

    name = "enlist"
    cancelable = False

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the node is registered, or the cluster is already formed."""
        config = await self._services.observer.config()
        if config.state is not ConfigState.PREPARED:
            return True
        return _planned(config, self._role).member == recall(ctx, self._role).member

    async def act(self, ctx: TaskContext) -> None:
        """Register the node; once both are registered, the next steps form the cluster."""
        node = recall(ctx, self._role)
        await self._write(ctx, node.member, node.placement.name)
        if not _both(ctx):
            await ctx.progress(1.0, message("progress.join.other", node.placement.name))

    async def undo(self, ctx: TaskContext) -> None:
        """Free the node's place for another one, unless it has taken over meanwhile."""
        if await leads(self._services, recall(ctx, self._role)):
            return
        await self._write(ctx, "", "")

    async def _write(self, ctx: TaskContext, member: str, name: str) -> None:
        def change(config: ClusterConfig) -> ClusterConfig:
            if config.state is not ConfigState.PREPARED:
                return config
            place = _planned(config, self._role)
            return config.with_planned(msgspec.structs.replace(place, member=member, name=name))

        await cluster_record(self._services.store).update(
            change, guards=[ctx.guard], idempotent=True
        )


class OnceComplete(Step):
    """A step that runs once both nodes have joined, or for the replacement of a node.

    ``of`` is the role of the node that the inner step acts on, if there is one. If the task has no
    such node, there is nothing to do: the successor of a lost witness needs no base backup.
    """

    def __init__(self, inner: Step, role: str, *, of: str | None = None) -> None:
        self._inner = inner
        self._role = role
        self._of = of
        self.name = inner.name
        self.weight = inner.weight
        self.cancelable = inner.cancelable

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the inner step does not apply, or is done."""
        if not (_both(ctx) or "old" in ctx.state):
            return True
        if self._of is not None and self._of not in ctx.state:
            return True
        return await self._inner.done(ctx)

    async def act(self, ctx: TaskContext) -> None:
        """Run the inner step."""
        await self._inner.act(ctx)

    async def undo(self, ctx: TaskContext) -> None:
        """Undo the inner step."""
        await self._inner.undo(ctx)


class CommitJoined(Commit):
    """The commit of the nodes that the task knows: both of a new cluster, or a replacement."""

    def __init__(self, services: Services) -> None:
        super().__init__(services, ROLES, _joined)

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the nodes that the task knows are committed."""
        self._roles = tuple(role for role in ROLES if role in ctx.state)
        return await super().done(ctx)


def _joined(config: ClusterConfig, nodes: Sequence[NodeConfig], old: str | None) -> ClusterConfig:
    for node in nodes:
        config = config.with_replaced(old, node)
    if config.state is not ConfigState.PREPARED:
        return config
    return msgspec.structs.replace(
        config, state=ConfigState.CONFIGURED, mode=ClusterMode.ENABLED, planned=()
    )


def _both(ctx: TaskContext) -> bool:
    return all(role in ctx.state for role in ROLES)


def _planned(config: ClusterConfig, role: str) -> PlannedNode:
    found = config.planned_node(_KINDS[role])
    if found is None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("join.not.prepared"))
    return found


def _old(seen: Observation, role: str) -> NodeConfig:
    found = seen.witness if role == WITNESS else seen.passive
    if found is None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("join.not.prepared"))
    return found.config


def _manual(place: PlannedNode | NodeConfig, member: str, name: str) -> NewNode:
    return NewNode(
        kind=place.kind,
        member=member,
        token=member,
        placement=unmanaged_placement(name),
        ha_ip=place.ha_ip,
        failover_ip=place.failover_ip,
        vm="",
    )


prepare(__name__)
