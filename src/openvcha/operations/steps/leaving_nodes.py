"""The nodes that an undeploy removes, stored in the task's record."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.cluster.config import NodeConfig
from openvcha.tasks.steps import TaskContext


class LeavingNodes(msgspec.Struct, frozen=True, kw_only=True):
    """``stays`` is the remaining member; ``delete``: whether the other VMs are deleted."""

    stays: str
    nodes: tuple[NodeConfig, ...]
    delete: bool


def recall_leaving(ctx: TaskContext) -> LeavingNodes:
    """Return what the check decided. Raises KeyError before it."""
    return msgspec.convert(ctx.state["leaving"], LeavingNodes)


async def remember_leaving(ctx: TaskContext, leaving: LeavingNodes) -> None:
    """Store the decision durably before anything is done."""
    await ctx.remember(leaving=msgspec.to_builtins(leaving))


prepare(__name__)
