"""Power loss on purpose, and the orderly shutdown of a lab."""

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path

from openvcha.client.errors import CommandError
from openvcha.client.narrator import Narrator
from openvcha.infrastructure.inventory import Vm
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.switch_client import SwitchClient
from openvcha.lab.access import find_supervisor, is_on, lab_infrastructure, lab_inventory
from openvcha.lab.folders import check_directory
from openvcha.lab.leftover import require_unneeded
from openvcha.lab.lock import hold
from openvcha.lab.roles import ACTIVE, PASSIVE, WITNESS, Roles, find_roles, select
from openvcha.lab.state import Lab
from openvcha.node.process.process_tree import is_alive, send
from openvcha.system.files.rmtree_errors import FULL_PATH_ERRORS

STOP_SECONDS = 30.0
POLL_SECONDS = 0.05
ORDER = (None, PASSIVE, ACTIVE, WITNESS)


async def find(lab: Lab, node: str) -> Vm:
    """Return a node's VM by role, name or id. Raises CommandError."""
    inventory = await lab_inventory(lab)
    return select(lab, inventory, await find_roles(inventory), node)


async def kill(lab: Lab, node: str) -> tuple[Vm, bool]:
    """Cut a node's power; return its VM, and whether it was on. Raises CommandError."""
    vm = await find(lab, node)
    await lab_infrastructure(lab).power_off(vm.id)
    return vm, is_on(vm)


async def destroy(lab: Lab, node: str) -> Vm:
    """Kill a node and delete it with its data, like the loss of a host. Raises CommandError.

    Name a node of the cluster by its role. A name selects only a VM that the cluster does not need.
    """
    if node == ACTIVE:
        raise CommandError("the active cannot be destroyed: the API cannot replace it")
    vm = await find(lab, node)
    if node not in (PASSIVE, WITNESS):
        await require_unneeded(lab, await lab_inventory(lab), vm)
    await lab_infrastructure(lab).delete(vm.id)
    return vm


async def down(lab: Lab, narrator: Narrator) -> int:
    """Stop all nodes in order, the active after the passive, and return how many were running.

    So there is no takeover, and the same node will be the active again.
    """
    async with hold(
        lab.directory, lambda: narrator.say("Waiting for another vcha that is using this lab")
    ):
        stopped = await _stop_all(lab, narrator)
        await _end_switch(lab)
        return stopped


async def reset(lab: Lab, narrator: Narrator) -> None:
    """Kill the lab and delete its directory. Raises CommandError if that is not a lab's."""
    check_directory(lab.directory)
    async with hold(
        lab.directory, lambda: narrator.say("Waiting for another vcha that is using this lab")
    ):
        infrastructure = lab_infrastructure(lab)
        for vm in (await lab_inventory(lab)).vms:
            with narrator.step(f"Stopping {vm.name}"):
                await infrastructure.power_off(vm.id)
        await _end_switch(lab)
        with narrator.step(f"Deleting {lab.directory}"):
            await asyncio.to_thread(_delete, lab.directory)


async def _end_switch(lab: Lab) -> None:
    """End the process that listens at the public address, and what it knows.

    No node runs any more that could lead without knowing that another one does.
    """
    switch = SwitchClient(lab.infrastructure)
    await switch.end()
    await switch.forget()


def _delete(directory: Path) -> None:
    """Delete the directory; only its contents if the parent belongs to another user."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, **FULL_PATH_ERRORS)
        else:
            path.unlink()
    with contextlib.suppress(PermissionError):
        directory.rmdir()


async def _stop_all(lab: Lab, narrator: Narrator) -> int:
    inventory = await lab_inventory(lab)
    running = [vm for vm in inventory.vms if is_on(vm)]
    if not running:
        return 0
    known = await find_roles(inventory)
    infrastructure = lab_infrastructure(lab)
    for vm in sorted(running, key=lambda vm: ORDER.index(known.of(vm))):
        with narrator.step(f"Stopping {_described(vm, known)}"):
            await _stop(infrastructure, vm)
    return len(running)


async def _stop(infrastructure: LocalInfrastructure, vm: Vm) -> None:
    """Stop a node in order; cut its power at the deadline."""
    supervisor = await asyncio.to_thread(find_supervisor, vm)
    if supervisor and send(supervisor, signal.SIGTERM):
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while is_alive(supervisor):  # noqa: ASYNC110 - another process's end sets no Event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            pass  # the power is cut now
    await infrastructure.power_off(vm.id)


def _described(vm: Vm, known: Roles) -> str:
    role = known.of(vm)
    return f"{vm.name} ({role})" if role else vm.name
