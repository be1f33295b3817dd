"""The task of a node that joins: it votes; when both are there, the cluster begins.

In a cluster that stands, the node takes the place of a lost one, as in a redeploy.
"""

from collections.abc import Sequence

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import ClusterMode, ConfigState, LocalizableMessage
from openvcha.cluster import membership, preconditions
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, PlannedNode, cluster_record
from openvcha.cluster.observation import Observation
from openvcha.operations.context import Services
from openvcha.operations.preconditions import require_still
from openvcha.operations.steps.clone import Clone
from openvcha.operations.steps.commit import Commit
from openvcha.operations.steps.copy import Copy
from openvcha.operations.steps.fence import Fence
from openvcha.operations.steps.join import Join
from openvcha.operations.steps.new_node import (
    PASSIVE,
    ROLES,
    WITNESS,
    NewNode,
    elsewhere,
    leads,
    member_name,
    recall,
    relied_on,
    remember,
)
from openvcha.operations.steps.quorum import SILENT_SECONDS, Silence, take_vote
from openvcha.operations.waiting import until
from openvcha.store import keys
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext, Temporary

JOINING = "org.openvcha.joining"
JOIN = f"{JOINING}.join"
START_SECONDS = 1800.0
"""How long a person may take to start a node whose place is kept; nothing else can run then."""

_KINDS = {PASSIVE: NodeKind.DATA, WITNESS: NodeKind.WITNESS}
_REDEPLOY = {PASSIVE: preconditions.REDEPLOY_PASSIVE, WITNESS: preconditions.REDEPLOY_WITNESS}


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of the task; ``digest`` tells its token."""

    role: str
    name: str
    digest: str


def entered(task: TaskRecord, role: str) -> NewNode | None:
    """Return the node that the task has decided on; None before its first step."""
    return msgspec.convert(task.state[role], NewNode) if role in task.state else None


def join_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a joining; those that do not apply find that they have nothing to do."""
    wanted = msgspec.convert(record.arguments, Joining)
    role = wanted.role
    return (
        Enter(services, wanted),
        Fence(services, role, _REDEPLOY[role]),
        Admit(services, role),
        Enlist(services, role),
        WhenBoth(Copy(services, PASSIVE), role, of=PASSIVE),
        WhenBoth(Join(services, PASSIVE), role, of=PASSIVE),
        WhenBoth(CommitJoined(services), role),
    )


class Enter(Step):
    """What joins is decided: in the place of a planned node, or of a lost one."""

    name = "check"

    def __init__(self, services: Services, wanted: Joining) -> None:
        self._services = services
        self._wanted = wanted

    async def done(self, ctx: TaskContext) -> bool:
        """Decided once."""
        return self._wanted.role in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Decide. Raises ApiError NOT_ALLOWED_IN_CURRENT_STATE."""
        role = self._wanted.role
        seen = await self._services.observe()
        require_still(preconditions.why_not_join(_KINDS[role], seen))
        if seen.config.state is ConfigState.PREPARED:
            await self._note_other(ctx, seen.config)
            await remember(ctx, role, self._node(ctx, _planned(seen.config, role)))
            return
        old = _old(seen, role)
        await ctx.remember(old=old.member, old_vm=old.vm)
        await remember(ctx, role, self._node(ctx, old))

    async def undo(self, ctx: TaskContext) -> None:
        """Nothing was changed."""

    def _node(self, ctx: TaskContext, place: PlannedNode | NodeConfig) -> NewNode:
        name = self._wanted.name
        return _manual(place, member_name(name, ctx.record.id), name)

    async def _note_other(self, ctx: TaskContext, config: ClusterConfig) -> None:
        for role in ROLES:
            place = _planned(config, role)
            if place.member:
                await remember(ctx, role, _manual(place, place.member, place.name))


class Admit(Clone):
    """A node that a person starts: a learner before, a voter after. It has no VM."""

    weight = 10
    patience = SILENT_SECONDS

    def __init__(self, services: Services, role: str) -> None:
        super().__init__(services, role)
        self.name = f"admit.{role}"
        self._silence = Silence(services)

    async def done(self, ctx: TaskContext) -> bool:
        """A voter of that name is in etcd."""
        if await relied_on(self._services, ctx, self._role):
            return True
        return await self._votes(recall(ctx, self._role))

    async def act(self, ctx: TaskContext) -> None:
        """Keep a place for it, and wait until somebody starts it."""
        node = recall(ctx, self._role)
        await self._register(ctx, node)
        await until(ctx, lambda: self._not_voting(node), START_SECONDS)
        await self._services.store.refresh_endpoints()

    async def _not_voting(self, node: NewNode) -> LocalizableMessage | None:
        if await super()._not_voting(node) is None:
            return None
        found = await membership.find(self._services.store, node.member)
        said = "progress.promote" if found else "progress.join.start"
        return message(said, node.placement.name)

    async def _delete(self, node: NewNode) -> None:
        """Take its vote; what a node without one still does is for a person to end."""
        services = self._services
        await take_vote(
            services, node.placement.name, node.member, services.peer_url(node.ha_address)
        )
        reason = await self._silence.unmet(node.configured())
        await services.store.delete(keys.patroni_member(node.member))
        await services.store.delete(keys.node_copy(node.member))
        if reason:
            raise Temporary(reason)


class Enlist(Step):
    """A prepared cluster knows the node as one of its two."""

    name = "enlist"
    cancelable = False

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role

    async def done(self, ctx: TaskContext) -> bool:
        """It does, or it is not only prepared any more."""
        config = await self._services.observer.config()
        if config.state is not ConfigState.PREPARED:
            return True
        return _planned(config, self._role).member == recall(ctx, self._role).member

    async def act(self, ctx: TaskContext) -> None:
        """Write it down; the last of both has more to do."""
        node = recall(ctx, self._role)
        await self._write(ctx, node.member, node.placement.name)
        if not _both(ctx):
            await ctx.progress(1.0, message("progress.join.other", node.placement.name))

    async def undo(self, ctx: TaskContext) -> None:
        """Await another one in its place, unless it has taken over meanwhile."""
        if await leads(self._services, recall(ctx, self._role)):
            return
        await self._write(ctx, "", "")

    async def _write(self, ctx: TaskContext, member: str, name: str) -> None:
        def change(config: ClusterConfig) -> ClusterConfig:
            if config.state is not ConfigState.PREPARED:
                return config
            place = _planned(config, self._role)
            return config.planning(msgspec.structs.replace(place, member=member, name=name))

        await cluster_record(self._services.store).update(
            change, guards=[ctx.guard], idempotent=True
        )


class WhenBoth(Step):
    """A step that waits for the second of two nodes to join, or for the one that replaces another.

    ``of`` is the node that the step is about, if it is one's: where the task does not know of it
    there is nothing to do. Of a lost witness' successor nothing has to be copied.
    """

    def __init__(self, inner: Step, role: str, *, of: str | None = None) -> None:
        self._inner = inner
        self._role = role
        self._of = of
        self.name = inner.name
        self.weight = inner.weight
        self.cancelable = inner.cancelable

    async def done(self, ctx: TaskContext) -> bool:
        """It does not apply, or it is done."""
        if not (_both(ctx) or "old" in ctx.state):
            return True
        if self._of is not None and self._of not in ctx.state:
            return True
        return await self._inner.done(ctx)

    async def act(self, ctx: TaskContext) -> None:
        """Do it."""
        await self._inner.act(ctx)

    async def undo(self, ctx: TaskContext) -> None:
        """Undo it."""
        await self._inner.undo(ctx)


class CommitJoined(Commit):
    """Commits those nodes that the task knows of: both of a new cluster, or a successor."""

    def __init__(self, services: Services) -> None:
        super().__init__(services, ROLES, _joined)

    async def done(self, ctx: TaskContext) -> bool:
        """As of any commit."""
        self._roles = tuple(role for role in ROLES if role in ctx.state)
        return await super().done(ctx)


def _joined(config: ClusterConfig, nodes: Sequence[NodeConfig], old: str | None) -> ClusterConfig:
    for node in nodes:
        config = config.replacing(old, node)
    if config.state is not ConfigState.PREPARED:
        return config
    return msgspec.structs.replace(
        config, state=ConfigState.CONFIGURED, mode=ClusterMode.ENABLED, planned=()
    )


def _both(ctx: TaskContext) -> bool:
    return all(role in ctx.state for role in ROLES)


def _planned(config: ClusterConfig, role: str) -> PlannedNode:
    found = config.awaited(_KINDS[role])
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
        placement=elsewhere(name),
        ha_ip=place.ha_ip,
        failover_ip=place.failover_ip,
        vm="",
    )


prepare(__name__)
