"""What a task gives a node that it creates: how to join, and a token that is valid once."""

from openvcha.cluster.config import NodeKind
from openvcha.infrastructure.boot import Boot
from openvcha.operations.context import Services
from openvcha.operations.join_tokens import boot_record, new_boot_token
from openvcha.operations.steps.new_node import NewNode
from openvcha.store.errors import Fenced
from openvcha.store.interface import Put
from openvcha.store.records import encode
from openvcha.system.network.host_port import url
from openvcha.tasks.steps import TaskContext


async def new_boot(services: Services, ctx: TaskContext, role: str, node: NewNode) -> Boot:
    """Return what the node gets; its token replaces the one before. Raises Fenced."""
    token, record = new_boot_token(node.ha_address, ctx.record.id, services.journal.clock())
    key = boot_record(services.store, role).key
    if not (await services.store.txn([ctx.guard], [Put(key, encode(record))])).succeeded:
        raise Fenced(f"{key}: another runner has taken over")
    return Boot(
        join=await _servers(services, str(ctx.state.get("old") or "")),
        token=token,
        authority_sha256=services.credentials.service_authority(),
        role=role,
        name=node.placement.name,
        ha_ip=node.ha_ip,
        failover_ip=node.failover_ip,
    )


async def boot_is_used(services: Services, ctx: TaskContext, role: str) -> bool:
    """Return whether a node has used the token of this task's node: then it keeps its boot file."""
    known = await boot_record(services.store, role).read_valid()
    return known is not None and known.value.task == ctx.record.id and bool(known.value.spent_by)


async def forget_boot(services: Services, role: str) -> None:
    """Delete the token: from now on it opens nothing."""
    await boot_record(services.store, role).delete()


async def _servers(services: Services, old: str) -> tuple[str, ...]:
    """Return where the API may be served while the task runs, at our own node first."""
    own, config = services.identity, await services.observer.config()
    others = [
        node.ha_address
        for node in config.of_kind(NodeKind.DATA)
        if node.member not in {own.member, old}
    ]
    on_ha = [url(address, own.ports.join) for address in (own.ha_address, *others)]
    return (*on_ha, url(own.public_address, own.ports.api))
