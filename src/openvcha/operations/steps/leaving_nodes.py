"""The nodes that an undeploy takes leave of, kept in the task's record."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.cluster.config import NodeConfig
from openvcha.tasks.steps import TaskContext


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """``stays`` is the member that goes on alone; ``delete``: whether the others' VMs go too."""

    stays: str
    nodes: tuple[NodeConfig, ...]
    delete: bool


def recall_leaving(ctx: TaskContext) -> Leaving:
    """Read what the check decided. Raises KeyError before."""
    return msgspec.convert(ctx.state["leaving"], Leaving)


async def remember_leaving(ctx: TaskContext, leaving: Leaving) -> None:
    """Keep what was decided, durable before anything is done."""
    await ctx.remember(leaving=msgspec.to_builtins(leaving))


prepare(__name__)
