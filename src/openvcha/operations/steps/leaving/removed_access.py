"""Removed nodes keep no access: their files are erased, and the credentials in them are rotated."""

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import mode_settings, patroni_client
from openvcha.cluster.config import NodeConfig
from openvcha.infrastructure.interface import Power
from openvcha.node import identity
from openvcha.node.etcd.account import ACCOUNT
from openvcha.node.layout import (
    API_KEY,
    CA_KEY,
    NODE_KEY,
    PATRONI_CONFIG,
    PATRONI_PASSWORDS,
    SERVICE_CA_KEY,
)
from openvcha.operations.steps.leaving.nodes import recall_leaving
from openvcha.operations.steps.leaving.step import OFF_SECONDS, LeavingStep, ReleasingStep
from openvcha.operations.steps.node_vms import write_files
from openvcha.operations.steps.patroni_settings import disable_failsafe
from openvcha.operations.waiting import wait_until
from openvcha.tasks.steps import TaskContext

SAFE_SECONDS = 30.0
RENEW_SECONDS = 60.0

NODE_FILES = (
    CA_KEY,
    SERVICE_CA_KEY,
    NODE_KEY,
    API_KEY,
    identity.SECRETS,
    ACCOUNT,
    PATRONI_CONFIG,
    PATRONI_PASSWORDS,
    identity.IDENTITY,
)
"""All files that make a node a member of the cluster, or give access to its database."""

_RENEWS = message("progress.renew")


class EraseIdentities(LeavingStep):
    """The step that removes keys, passwords and identity from the VMs that are kept."""

    name = "disarm"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether none of these files is left on a kept VM."""
        if recall_leaving(ctx).delete:
            return True
        reachable, away = await self._kept(ctx)
        if away and not ctx.record.leftovers:
            return False
        return not any([await self._armed(node) for node in reachable])

    async def act(self, ctx: TaskContext) -> None:
        """Empty the files; power off again a VM that was started meanwhile.

        An unreachable VM keeps its files; after the rotation they give access to nothing.
        """
        await ctx.progress(0.0, message("progress.disarm"))
        await wait_until(ctx, lambda: self._press(ctx), OFF_SECONDS, fraction=0.5)
        _, away = await self._kept(ctx)
        await ctx.leave(*(message("undeploy.unreachable", node.name, node.vm) for node in away))

    async def _press(self, ctx: TaskContext) -> LocalizableMessage | None:
        await self._switch_off(ctx)
        reachable, _ = await self._kept(ctx)
        for node in reachable:
            if paths := await self._armed(node):
                empty = dict.fromkeys(paths, b"")
                await write_files(self._services.infrastructure, node.vm, node.name, empty)
        return None

    async def _kept(self, ctx: TaskContext) -> tuple[list[NodeConfig], list[NodeConfig]]:
        """Return the nodes whose VMs are kept: the reachable ones, and the others."""
        vms = await self._vms(ctx)
        reachable = [node for node, power in vms if power is not Power.UNKNOWN]
        return reachable, [node for node, power in vms if power is Power.UNKNOWN]

    async def _armed(self, node: NodeConfig) -> list[str]:
        return [path for path in NODE_FILES if await self._content(node, path)]

    async def _content(self, node: NodeConfig, path: str) -> bytes:
        try:
            return await self._services.infrastructure.read_file(node.vm, path)
        except ApiError as error:
            if error.error_type is not ErrorType.NOT_FOUND:
                raise
            return b""


class RotateCredentials(ReleasingStep):
    """The step that rotates the active's credentials, which invalidates those of removed nodes.

    The store restarts meanwhile. So Patroni's failsafe mode is enabled first, until its key lists
    the active alone.
    """

    name = "renew"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the node CA differs from the one before, and the rotation is complete."""
        found, credentials = ctx.state.get("authority"), self._services.credentials
        renewed = found is not None and credentials.authority() != found
        return renewed and not credentials.pending() and await self._settled()

    async def act(self, ctx: TaskContext) -> None:
        """Request the rotation once, even across crashes, and wait until it is complete."""
        credentials = self._services.credentials
        if "authority" not in ctx.state:
            await ctx.remember(authority=credentials.authority())
        await wait_until(ctx, self._unsafe, SAFE_SECONDS, fraction=0.1)
        if credentials.authority() == ctx.state["authority"]:
            await credentials.renew()
        await wait_until(ctx, self._pending, RENEW_SECONDS, fraction=0.3)
        await disable_failsafe(self._services, _RENEWS)

    async def _unsafe(self) -> LocalizableMessage | None:
        await self._configure({patroni_client.FAILSAFE: True})
        known = await patroni_client.failsafe_members(self._services.store)
        own = self._services.identity.member
        return None if known == {own} else message("progress.renew.patroni")

    async def _pending(self) -> LocalizableMessage | None:
        credentials = self._services.credentials
        if not credentials.pending():
            return None
        hindrance = credentials.obstacle()
        return message("progress.renew.hindered", hindrance) if hindrance else _RENEWS

    async def _settled(self) -> bool:
        store = self._services.store
        found = await mode_settings.record(store).get() or {}
        return patroni_client.FAILSAFE not in found and not await patroni_client.failsafe_members(
            store
        )
