"""Before votes change: each node that has to vote from now is on record where the store is not."""

from openvcha.service.context import Services
from openvcha.service.new_node import ROLES, recall
from openvcha.tasks.steps import TaskContext


async def rely(services: Services, ctx: TaskContext) -> None:
    """Note, durably on the own disk, the VMs of all others whose votes count from now on."""
    config = await services.observer.config()
    gone = {services.identity.member, str(ctx.state.get("old") or "")}
    kept = [node.vm for node in config.nodes if node.member not in gone]
    made = [recall(ctx, role).vm or "" for role in ROLES if role in ctx.state]
    await services.rely_on(tuple(dict.fromkeys(vm for vm in (*kept, *made) if vm)))
