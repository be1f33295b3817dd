"""The nodes that an undeploy removes, stored in the task's record."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.cluster.config import NodeConfig
from openvcha.tasks.steps import TaskContext


class LeavingNodes(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes that leave. ``stays`` is the remaining member; ``delete``: delete their VMs."""

    stays: str
    nodes: tuple[NodeConfig, ...]
    delete: bool


def recall_leaving(ctx: TaskContext) -> LeavingNodes:
    """Return what the check decided. Raises KeyError before it."""
    return msgspec.convert(ctx.state["leaving"], LeavingNodes)


async def remember_leaving(ctx: TaskContext, leaving: LeavingNodes) -> None:
    """Store the decision durably, before any step acts on it."""
    await ctx.remember(leaving=msgspec.to_builtins(leaving))


prepare(__name__)
