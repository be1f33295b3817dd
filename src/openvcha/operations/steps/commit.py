"""Commit: the configuration names the new nodes; the remains of the old one are deleted."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from openvcha.api.errors import ApiError
from openvcha.api.messages import message
from openvcha.api.structures import ClusterState, LocalizableMessage
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, cluster_record
from openvcha.cluster.findings.health import assess
from openvcha.infrastructure.interface import Power
from openvcha.operations.context import Services
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.new_node import committed, recall
from openvcha.operations.steps.node_vms import (
    HOST_SILENT,
    RemovedNode,
    delete_vm,
    owe_deletion,
    why_left,
)
from openvcha.operations.steps.patroni_settings import PROTECT_SECONDS, protect
from openvcha.operations.waiting import wait_until
from openvcha.store import keys
from openvcha.tasks.steps import Step, TaskContext
from openvcha.tasks.transient import WaitTimedOut

HEALTHY_SECONDS = 60.0
ACTIVE_SECONDS = 300.0

Change = Callable[[ClusterConfig, Sequence[NodeConfig], str | None], ClusterConfig]


class Commit(Step):
    """The step that enters the new nodes in the configuration and deletes the old one's remains.

    ``change`` returns the new configuration, given the old one; it is idempotent.
    """

    name = "commit"
    weight = 5
    cancelable = False

    def __init__(self, services: Services, roles: Sequence[str], change: Change) -> None:
        self._services = services
        self._roles = roles
        self._change = change

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the configuration names the new nodes, and the old one is deleted."""
        named = [await committed(self._services, ctx, role) for role in self._roles]
        return all(named) and await self._is_gone(ctx) and not await self._left_keys(ctx)

    async def act(self, ctx: TaskContext) -> None:
        """Enter the new nodes first: then the new data count, and the old ones may be deleted."""
        # The repair continues anyway: the health reports what could not be set.
        with contextlib.suppress(WaitTimedOut):
            await wait_until(ctx, partial(protect, self._services), PROTECT_SECONDS)
        nodes = [recall(ctx, role).configured() for role in self._roles]
        old = _old(ctx)
        await ctx.progress(0.1, message("progress.commit", ", ".join(n.name for n in nodes)))
        await cluster_record(self._services.store).update(
            lambda config: self._change(config, nodes, old), guards=[ctx.guard], idempotent=True
        )
        await self._delete_old(ctx)
        for key in await self._left_keys(ctx):
            await self._services.store.delete(key)
        await self._settle(ctx)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: a committed node stays."""

    async def _delete_old(self, ctx: TaskContext) -> None:
        """Delete the old node's VM, or report that it is left: the new node counts in any case."""
        vm = str(ctx.state.get("old_vm") or "")
        reason: str | None = None
        try:
            await wait_until(ctx, lambda: self._last_copy(ctx), ACTIVE_SECONDS, fraction=0.2)
            if not await delete_vm(ctx, self._services.infrastructure, vm, 0.3):
                reason = HOST_SILENT
        except (ApiError, OSError) as error:
            reason = why_left(error)
        await ctx.leave(*([await self._owe(ctx, vm, reason)] if reason else []))

    async def _owe(self, ctx: TaskContext, vm: str, reason: str) -> LocalizableMessage:
        """Record the deletion that is owed; return what the task says of it."""
        name = await self._name(ctx, vm)
        old = RemovedNode(vm, name, _old(ctx) or "", self._data(ctx))
        if await owe_deletion(self._services, ctx, old, reason) and reason == HOST_SILENT:
            return message("commit.owed", name, vm)
        return message("commit.left", name, vm, reason)

    async def _name(self, ctx: TaskContext, vm_id: str) -> str:
        """Return the name of the old VM, or of its member if the inventory does not respond."""
        with contextlib.suppress(ApiError, OSError):
            if vm := (await self._services.infrastructure.inventory()).vm(vm_id):
                return vm.name
        return _old(ctx) or vm_id

    async def _is_gone(self, ctx: TaskContext) -> bool:
        """Return whether the old VM is gone; False also if that is unknown: ``act`` reports why."""
        try:
            return await self._power(ctx) is Power.GONE
        except (ApiError, OSError):
            return False

    async def _power(self, ctx: TaskContext) -> Power:
        vm = str(ctx.state.get("old_vm") or "")
        return (await self._services.infrastructure.node(vm)).power if vm else Power.GONE

    async def _left_keys(self, ctx: TaskContext) -> list[str]:
        """Return the keys of boot tokens, and of reports of the new nodes and the old one."""
        members = [recall(ctx, role).member for role in self._roles]
        members += [old] if (old := _old(ctx)) else []
        wanted = [keys.base_backup_report(name) for name in members]
        found = [await self._services.store.get(key) for key in wanted]
        tokens = await self._services.store.prefix(keys.BOOT_TOKENS, keys_only=True)
        return [kv.key for kv in (*found, *tokens) if kv is not None]

    async def _last_copy(self, ctx: TaskContext) -> LocalizableMessage | None:
        if not self._data(ctx) or await self._power(ctx) is Power.GONE:
            return None
        name = await self._name(ctx, str(ctx.state.get("old_vm")))
        refusal = last_copy(await self._services.observe(), _old(ctx) or "", name)
        return refusal.reason if refusal else None

    def _data(self, ctx: TaskContext) -> bool:
        """Return whether the old node has a copy of the protected data."""
        return any(recall(ctx, role).kind is NodeKind.DATA for role in self._roles)

    async def _settle(self, ctx: TaskContext) -> None:
        """Wait for HEALTHY; a new fault does not fail this task."""

        async def unhealthy() -> LocalizableMessage | None:
            health = assess(await self._services.observe())
            return None if health.state is ClusterState.HEALTHY else health.warnings[0].error

        with contextlib.suppress(WaitTimedOut):
            await wait_until(ctx, unhealthy, HEALTHY_SECONDS, fraction=0.5)


def _old(ctx: TaskContext) -> str | None:
    return str(ctx.state.get("old") or "") or None
