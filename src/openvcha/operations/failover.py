"""Failover on request: check, checkpoint, switch, address, settle.

In a planned failover, the passive catches up first, and then Patroni switches over. A forced one
transfers the leader key in one transaction: the passive has every acknowledged write, since
``/sync`` must name it. The task runs on the active, so it starts on one node and ends on the other.

A forced failover also takes the lead from a member that was removed from the cluster. The service
of that member, which still holds the public address, is informed.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import ClusterMode, LocalizableMessage
from openvcha.cluster import leader_key, patroni_client, preconditions
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.failover_obstacle import FailoverObstacle
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.cluster.preconditions import Reason
from openvcha.node.postgres.diagnosis.replay import Replay
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.preconditions import require, require_still
from openvcha.operations.steps.address import AwaitAddress
from openvcha.operations.targets import vm_target
from openvcha.operations.waiting import wait_until
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext, TemporaryFailure
from openvcha.tasks.transient import WaitTimedOut

SERVICE = "com.vmware.vcenter.vcha.cluster"
REPLAY_SECONDS = 30.0
"""As long as PostgreSQL lets a query delay replay (``max_standby_streaming_delay``)."""
CHECKPOINT_SECONDS = 600.0
"""For both checkpoints: meanwhile the task holds the cluster's only operation."""
SWITCH_SECONDS = 120.0
SETTLE_SECONDS = 120.0
LOST_SECONDS = 5.0
# Clients wait or reconnect during these steps, so the steps poll less often than others.
POLL_SECONDS = 0.2


async def fail_over(services: Services, caller: Caller, planned: bool) -> str:
    """Create the task of a failover, and return its id. Raises ApiError with the refusal."""
    seen = await require(services, partial(why_not, planned=planned))
    active = seen.active
    task = await services.journal.create(
        service=SERVICE,
        operation="failover$task",
        description=message("cluster.failover" if planned else "cluster.failover.forced"),
        user=caller.user,
        target=vm_target(active.config if active else None),
        arguments={"planned": planned},
    )
    return task.id


def why_not(seen: Observation, *, planned: bool) -> Reason:
    """Return why this kind of failover may not run; None when it may."""
    reason = preconditions.why_not(preconditions.FAILOVER, seen)
    return reason or (preconditions.why_not_planned(seen) if planned else None)


def failover_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a failover task."""
    planned = bool(record.arguments["planned"])
    prepare = (Checkpoint(services),) if planned else ()
    return (
        CheckFailover(services, planned=planned),
        *prepare,
        SwitchLeader(services, planned=planned),
        AwaitAddress(services),
        Settle(services),
    )


@dataclass(frozen=True)
class _Switchover:
    """The leader and its successor; ``old`` is unset if the leader is not a configured node."""

    leads: str
    old: NodeConfig | None
    new: NodeConfig


async def _recall(services: Services, ctx: TaskContext) -> _Switchover:
    """Return the chosen nodes. Raises KeyError before the check, ApiError when one is gone."""
    config = await services.observer.config()
    leads = str(ctx.state["from"])
    old, new = config.node(leads), config.node(str(ctx.state["to"]))
    if new is None or (old is None and not ctx.state.get("stranger")):
        raise _node_lost()
    return _Switchover(leads, old, new)


def _node_lost() -> ApiError:
    text = FailoverObstacle.NODE_LOST.message()
    return ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, text)


class CheckFailover(Step):
    """The step that decides which node takes over."""

    name = "check"

    def __init__(self, services: Services, *, planned: bool) -> None:
        self._services = services
        self._planned = planned

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the nodes are chosen. The choice is final: a resume must not fail back."""
        return "to" in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Check the preconditions again, then store both nodes. Raises ApiError."""
        seen = await self._services.observe()
        require_still(why_not(seen, planned=self._planned))
        heir = seen.sync_candidate if seen.unknown_leader else seen.passive
        if seen.leader is None or heir is None:
            raise _node_lost()
        way = {"from": seen.leader, "to": heir.config.member}
        await ctx.remember(**way, stranger=bool(seen.unknown_leader))

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""


class Checkpoint(Step):
    """The step that runs checkpoints, which leaves little to write and replay in the switch."""

    name = "prepare"
    weight = 4

    def __init__(self, services: Services) -> None:
        self._services = services

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the checkpoints were run once: little is written afterwards."""
        leads = await patroni_client.leader(self._services.store)
        return bool(ctx.state.get("prepared")) or leads == ctx.state["to"]

    async def act(self, ctx: TaskContext) -> None:
        """Run a checkpoint on the active, then on the passive, which needs the active's record.

        Then wait until the passive has replayed everything that the active has written so far.
        Raises ApiError TIMED_OUT naming what blocks the replay, or whose checkpoint does not end.
        """
        way = await _recall(self._services, ctx)
        if way.old is None:
            return
        until = asyncio.get_running_loop().time() + CHECKPOINT_SECONDS
        for fraction, node in ((0.0, way.old), (0.5, way.new)):
            await ctx.progress(fraction, message("progress.failover.prepare", node.name))
            await ctx.interruptible(self._checkpoint(node, until))
        target = await self._position(way.old)
        await wait_until(
            ctx, lambda: self._behind(way.new, target), REPLAY_SECONDS, 0.8, pause=POLL_SECONDS
        )
        await ctx.remember(prepared=True)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: checkpoints are harmless."""

    async def _checkpoint(self, node: NodeConfig, until: float) -> None:
        """Run a checkpoint until then (the loop's time) at most. Raises WaitTimedOut."""
        try:
            with _temporary(node):
                async with asyncio.timeout_at(until) as scope:
                    await self._services.postgres.checkpoint(node.ha_address)
        except TimeoutError:
            if not scope.expired():
                raise
            late = f"the checkpoints take longer than {CHECKPOINT_SECONDS:g} s"
            raise WaitTimedOut(message("failover.unprepared", node.name, late)) from None

    async def _position(self, node: NodeConfig) -> int:
        with _temporary(node):
            return await self._services.postgres.position(node.ha_address)

    async def _behind(self, node: NodeConfig, target: int) -> LocalizableMessage | None:
        with _temporary(node):
            seen = await self._services.postgres.replay(node.ha_address)
        return behind(seen, node.name, target)


def behind(seen: Replay, name: str, target: int) -> LocalizableMessage | None:
    """Return how far the replay is from ``target``, and what blocks it; None when it is there."""
    if not seen.standby or seen.position >= target:
        return None
    if seen.holders:
        first = seen.holders[0]
        who = (first.pid, first.user, first.application, first.began)
        return message("failover.replay.held", name, *who, first.pid)
    if seen.delayed:
        return message("failover.replay.delayed", name, seen.delay)
    return message("progress.failover.replay", name, target - seen.position)


@contextlib.contextmanager
def _temporary(node: NodeConfig) -> Iterator[None]:
    try:
        yield
    except PostgresUnreachable as error:
        raise TemporaryFailure(message("failover.unprepared", node.name, error)) from error


class SwitchLeader(Step):
    """The step that makes the new active the leader, and waits until it accepts writes."""

    name = "switch"
    weight = 3
    cancelable = False

    def __init__(self, services: Services, *, planned: bool) -> None:
        self._services = services
        self._planned = planned

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the leader key names the new active and its PostgreSQL accepts writes."""
        way = await _recall(self._services, ctx)
        leads = await patroni_client.leader(self._services.store)
        return leads == way.new.member and await self._not_writable(way.new) is None

    async def act(self, ctx: TaskContext) -> None:
        """Request the switch; retry a failed request as long as the preconditions hold."""
        way = await _recall(self._services, ctx)
        await wait_until(ctx, lambda: self._press(ctx, way), SWITCH_SECONDS, pause=POLL_SECONDS)

    async def undo(self, ctx: TaskContext) -> None:
        """Withdraw the request and undo the transfer: no switch may follow the end of the task."""
        way = await _recall(self._services, ctx)
        store = self._services.store
        await leader_key.withdraw_request(store, ctx.guard, way.leads, way.new.member)
        await leader_key.undo_transfer(store, ctx.guard, way.leads, way.new.member)

    async def _press(self, ctx: TaskContext, way: _Switchover) -> LocalizableMessage | None:
        store = self._services.store
        leads = await patroni_client.leader(store)
        if leads == way.new.member:
            return await self._not_writable(way.new)
        # An active that is stopping on request accepts no writes: that is no reason to refuse.
        if leads == way.leads and not await leader_key.is_requested(store):
            await self._begin(ctx, way)
        return message("progress.failover.switch", way.new.name)

    async def _begin(self, ctx: TaskContext, way: _Switchover) -> None:
        """Request the switch. Raises ApiError, or TemporaryFailure, when it is not allowed now."""
        seen = await self._services.observe()
        if seen.leader != way.leads:
            return
        require_still(preconditions.why_not(preconditions.FAILOVER, seen))
        both = (self._services.store, ctx.guard, way.leads, way.new.member)
        # In MAINTENANCE Patroni does not stop an active that lost the key, so it must switch over.
        if not self._planned and seen.config.mode is not ClusterMode.MAINTENANCE:
            await leader_key.transfer(*both)
        elif await leader_key.request_switchover(*both) and way.old is not None:
            await _wake(self._services, way.old)

    async def _not_writable(self, node: NodeConfig) -> LocalizableMessage | None:
        try:
            state = await self._services.patroni.node(node.ha_address)
        except PatroniUnreachable:
            return message("progress.failover.writable", node.name)
        return None if state.primary else message("progress.failover.writable", node.name)


class Settle(Step):
    """The step that waits until the former active follows the new one, or is known to be lost."""

    name = "settle"
    weight = 2
    cancelable = False

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lost_since: float | None = None

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the cluster is ready for another failover."""
        del ctx
        return (await self._services.observe()).passive_in_sync

    async def act(self, ctx: TaskContext) -> None:
        """Wait for the former active; the failover has succeeded in any case."""
        way = await _recall(self._services, ctx)
        with contextlib.suppress(WaitTimedOut):
            await wait_until(ctx, lambda: self._unmet(way), SETTLE_SECONDS, pause=POLL_SECONDS)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: the new active stays."""

    async def _unmet(self, way: _Switchover) -> LocalizableMessage | None:
        seen = await self._services.observe()
        node = seen.node(way.leads)
        if seen.passive_in_sync or node is None or self._lost(node):
            return None
        active = seen.active
        if active and active.patroni and way.leads in active.patroni.replication:
            await _wake(self._services, active.config)
            return message("progress.join.sync", node.config.name)
        return message("progress.join.catching.up", node.config.name)

    def _lost(self, node: NodeObservation) -> bool:
        """Return whether a node has been silent for longer than a restart takes."""
        now = asyncio.get_running_loop().time()
        if node.up:
            self._lost_since = None
            return False
        self._lost_since = self._lost_since or now
        return now - self._lost_since >= LOST_SECONDS


async def _wake(services: Services, active: NodeConfig) -> None:
    """Make the active's Patroni run its cycle now, instead of a second later."""
    with contextlib.suppress(PatroniUnreachable):
        await services.patroni.wake(active.ha_address)
