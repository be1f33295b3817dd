"""VMs left behind by failed operations, which the cluster does not need."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from openvcha.client.errors import CommandError
from openvcha.cluster.config import ClusterConfig, read_config
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.lab.access import data_nodes, is_on, load_vm_identity
from openvcha.lab.folders import shell_command
from openvcha.lab.state import Lab
from openvcha.node.store_access import open_store
from openvcha.store.errors import StoreError
from openvcha.store.interface import Member
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.tasks.journal import Journal

ASK_SECONDS = 5.0


async def require_unneeded(lab: Lab, inventory: Inventory, vm: Vm) -> None:
    """Raise CommandError unless the store confirms that the cluster does not need a VM."""
    if reason := await _reason(lab, inventory, vm):
        raise CommandError(f"{vm.name} was not destroyed: {reason}")


def why_needed(
    lab: Lab,
    vm: str,
    member: str | None,
    *,
    config: ClusterConfig,
    members: Sequence[Member],
    running: str | None,
) -> str | None:
    """Return why the VM ``vm`` must stay, and what to do instead; None if it may be deleted.

    ``member`` is the node's name in the store, ``running`` is the running task.
    """
    if any(node.vm == vm for node in config.nodes):
        return (
            "it is a node of the cluster; to lose the passive or the witness, name it by its role"
        )
    if running:
        return f"an operation is running (task {running}) and may need it; wait until it ends"
    if any(one.name == member and not one.learner for one in members):
        again = shell_command(lab, "lab up")
        return (
            f"it has a vote in the store, which may stop without it; {again} deploys, and"
            " removes that vote"
        )
    return None


async def _reason(lab: Lab, inventory: Inventory, vm: Vm) -> str | None:
    for node, _ in data_nodes(inventory):
        if not is_on(node):
            continue
        with contextlib.suppress(StoreError, LookupError, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS), open_store(Path(node.directory)) as store:
                return await _asked(lab, store, vm)
    start = shell_command(lab, "lab up")
    return f"cannot tell whether the cluster still needs it; {start} starts the nodes"


async def _asked(lab: Lab, store: SealedEtcd, vm: Vm) -> str | None:
    identity = load_vm_identity(vm)
    running = await Journal(store).running()
    return why_needed(
        lab,
        vm.id,
        identity.member if identity else None,
        config=await read_config(store),
        members=await store.members(),
        running=running.id if running else None,
    )
