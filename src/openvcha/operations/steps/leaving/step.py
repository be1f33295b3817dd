"""The base of the steps in which nodes leave the cluster."""

import asyncio
from functools import partial

from openvcha.api.messages import message
from openvcha.cluster import patroni_client
from openvcha.cluster.config import NodeConfig
from openvcha.infrastructure.interface import Power
from openvcha.operations.context import Services
from openvcha.operations.steps.leaving.nodes import recall_leaving
from openvcha.operations.steps.patroni_settings import PROTECT_SECONDS, configure, protect
from openvcha.operations.waiting import wait_until
from openvcha.tasks.steps import Step, TaskContext

OFF_SECONDS = 120.0


class LeavingStep(Step):
    """The base of these steps."""

    cancelable = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: a removed node does not return; another undeploy continues from here."""

    async def _configure(self, wanted: patroni_client.Settings) -> None:
        await configure(self._services, wanted, message("progress.release"))

    async def _vms(self, ctx: TaskContext) -> list[tuple[NodeConfig, Power]]:
        """Return the leaving nodes whose VMs exist or may exist, with their power."""
        nodes = [node for node in recall_leaving(ctx).nodes if node.vm]
        states = await asyncio.gather(
            *(self._services.infrastructure.node(node.vm) for node in nodes)
        )
        found = zip(nodes, (state.power for state in states), strict=True)
        return [(node, power) for node, power in found if power is not Power.GONE]

    async def _switch_off(self, ctx: TaskContext) -> None:
        for node, power in await self._vms(ctx):
            if power is Power.ON:
                await self._services.infrastructure.power_off(node.vm)


class ReleasingStep(LeavingStep):
    """A step that leaves Patroni with settings that an undo must revert."""

    async def undo(self, ctx: TaskContext) -> None:
        """Restore the settings: once lost nodes are redeployed, commits must be protected."""
        await wait_until(ctx, partial(protect, self._services), PROTECT_SECONDS)
