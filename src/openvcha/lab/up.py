"""Bringing a lab up: only the steps that are not done yet."""

import asyncio
import socket
import uuid
from pathlib import Path
from typing import Any

from openvcha.api.structures import ClusterState, ConfigState
from openvcha.client.errors import CommandError, RequestRefused, ServerUnreachable, error_text
from openvcha.client.narrator import Narrator
from openvcha.client.rest_client import ApiClient
from openvcha.client.tasks import follow, follow_to_success, running_task
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.lab.access import (
    authenticated_client,
    client,
    data_nodes,
    find_supervisor,
    is_on,
    lab_inventory,
    load_vm_identity,
    open_infrastructure,
)
from openvcha.lab.addresses import choose_octet, first_octet
from openvcha.lab.deploy import cluster, deploy
from openvcha.lab.first_node import NAME, first_node_made, make_first_node
from openvcha.lab.folders import labs, shell_command
from openvcha.lab.lock import hold
from openvcha.lab.roles import ACTIVE, find_roles
from openvcha.lab.settings import SettingsRequest
from openvcha.lab.state import Lab, LabState
from openvcha.lab.users import make_users
from openvcha.node.identity import Identity

START_SECONDS = 90.0
HEALTHY_SECONDS = 90.0
POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
UNAVAILABLE = 503


async def up(
    lab: Lab,
    narrator: Narrator,
    *,
    active_only: bool = False,
    settings: SettingsRequest | None = None,
) -> bool:
    """Bring the lab up, wait until it is HEALTHY, and return whether it is.

    It does not replace a destroyed node, which takes a redeploy: then it returns False. With
    ``active_only`` an undeployed lab stays undeployed, for a manual deployment. ``settings``
    are for a new lab; an existing one that has others is refused. Raises CommandError,
    RequestRefused, ServerUnreachable and ApiError.
    """
    async with hold(
        lab.directory, lambda: narrator.say("Waiting for another vcha that is using this lab")
    ):
        claim = _make(lab, narrator, settings or SettingsRequest())
        try:
            return await _up(lab, narrator, active_only=active_only)
        finally:
            if claim:
                claim.close()


def _make(lab: Lab, narrator: Narrator, asked: SettingsRequest) -> socket.socket | None:
    """Write the state of a new lab, and return a socket that claims its addresses.

    Raises CommandError if an existing lab has other settings.
    """
    if lab.exists:
        if differing := asked.differing(lab.state().settings):
            raise CommandError(
                f"this lab was created with{differing}; leave these options out, or delete the"
                f" lab first ({shell_command(lab, 'lab reset')})"
            )
        return None
    with narrator.step(f"Creating the lab in {lab.directory}"):
        name = lab.directory.name
        taken = (other.state().octet for other in labs([lab.directory.parent]))
        octet, claim = choose_octet(taken, first=first_octet())
        settings, cluster_id = asked.settings(), str(uuid.uuid4())
        lab.make(LabState(name=name, octet=octet, cluster_id=cluster_id, settings=settings))
    return claim


async def _up(lab: Lab, narrator: Narrator, *, active_only: bool) -> bool:
    infrastructure = await open_infrastructure(lab)
    if not first_node_made(lab):
        with narrator.step(f"Creating the first node, {NAME}"):
            await make_first_node(lab, infrastructure)
    await _finish_running(lab, narrator)
    await _power_on(lab, infrastructure, narrator)
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        with narrator.step(f"Waiting for the API at {lab.state().api}"):
            await _answering(lab)
        try:
            return await _finish(lab, narrator, active_only=active_only)
        except (ServerUnreachable, RequestRefused) as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or (isinstance(error, RequestRefused) and error.status != UNAVAILABLE):
                raise
        # An active that was isolated until now steps down before it leads again.
        narrator.say("The API is gone again")
        await asyncio.sleep(RETRY_SECONDS)


async def _finish(lab: Lab, narrator: Narrator, *, active_only: bool) -> bool:
    async with authenticated_client(lab) as api:
        await _finish_tasks(api, narrator)
        return await _deployed(lab, api, narrator, active_only=active_only)


async def _finish_running(lab: Lab, narrator: Narrator) -> None:
    """Wait for a running task first: a redeploy must find the old node as it was.

    An active that continues alone responds, but runs no tasks until the others return.
    """
    async with client(lab) as api:
        if not await api.answers():
            return
    try:
        async with authenticated_client(lab) as api:
            await _finish_tasks(api, narrator)
    except RequestRefused as error:
        if error.status != UNAVAILABLE:
            raise


async def _finish_tasks(api: ApiClient, narrator: Narrator) -> None:
    """Follow the running operation of an earlier call; if it fails, only report that."""
    while running := await running_task(api):
        task, info = running
        with narrator.step(f"Following the running task: {info['description']['default_message']}"):
            ended = await follow(api, task, narrator)
        if ended.get("error"):
            narrator.say(f"The task failed: {error_text(ended['error'])}")


async def _power_on(lab: Lab, infrastructure: LocalInfrastructure, narrator: Narrator) -> None:
    for vm in (await infrastructure.inventory()).vms:
        if vm.deleting:
            with narrator.step(f"Deleting what is left of {vm.name}"):
                await infrastructure.delete(vm.id)
    inventory = await infrastructure.inventory(power=True)
    off = [vm for vm in inventory.vms if load_vm_identity(vm) and not find_supervisor(vm)]
    if not off:
        return
    await _addresses_free(lab, infrastructure, inventory, off)
    with narrator.step(f"Starting {', '.join(vm.name for vm in off)}"):
        await asyncio.gather(*(infrastructure.power_on(vm.id) for vm in off))


async def _addresses_free(
    lab: Lab, infrastructure: LocalInfrastructure, inventory: Inventory, off: list[Vm]
) -> None:
    own = [vm.id for vm in inventory.vms]
    wanted = [address for vm in off for address in vm.addresses]
    if not any(is_on(vm) for vm, _ in data_nodes(inventory)):
        wanted.append(lab.state().public_address)
    for address in wanted:
        if await infrastructure.address_in_use(address, ignoring=own):
            raise CommandError(
                f"another program uses {address}, an address of this lab; it may be a lab"
                " in another folder. Stop it (`ss -ltnp` shows it)"
            )


async def _answering(lab: Lab) -> None:
    """Wait for the API; meanwhile create the users, which needs only the store."""
    nodes = data_nodes(await lab_inventory(lab))
    if not nodes:
        raise CommandError(
            f"no data node is left: run {shell_command(lab, 'lab reset')}, then start over"
        )
    making = asyncio.create_task(make_users(lab, Path(nodes[0][0].directory)), name="users")
    try:
        async with asyncio.timeout(START_SECONDS), client(lab) as api:
            while not await api.answers():  # noqa: ASYNC110 - nothing here can set an Event
                await asyncio.sleep(POLL_SECONDS)
            await making
    except TimeoutError:
        raise CommandError(
            f"the API at {lab.state().api} did not respond within {START_SECONDS:g} s;"
            f" {shell_command(lab, f'lab logs {nodes[0][0].name}')} shows why"
        ) from None
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


async def _deployed(lab: Lab, api: ApiClient, narrator: Narrator, *, active_only: bool) -> bool:
    state = (await cluster(api, partial=True))["config_state"]
    if state == ConfigState.PREPARED or (state != ConfigState.CONFIGURED and active_only):
        return True
    # INVALID as well: the remnants of a failed deployment do not block the next one.
    if state != ConfigState.CONFIGURED:
        with narrator.step("Deploying the passive and the witness through the API"):
            inventory = await lab_inventory(lab)
            active = await _active(inventory)
            task = await deploy(api, lab.state(), inventory, active.ha_address)
            await follow_to_success(api, task, narrator)
    if (await cluster(api))["health_state"] == ClusterState.HEALTHY:
        return True
    with narrator.step("Waiting for the cluster to be HEALTHY"):
        return await _healthy(api)


async def _active(inventory: Inventory) -> Identity:
    """Return the active's identity: a leftover VM with data may run beside it."""
    known = await find_roles(inventory)
    nodes = data_nodes(inventory)
    return next((one for vm, one in nodes if known.of(vm) == ACTIVE), nodes[0][1])


async def _healthy(api: ApiClient) -> bool:
    """Wait for HEALTHY, unless a node is missing: then that would take forever."""
    try:
        async with asyncio.timeout(HEALTHY_SECONDS):
            while True:
                info = await _cluster_or_none(api)
                if info and (info["health_state"] == ClusterState.HEALTHY or lacks_node(info)):
                    return bool(info["health_state"] == ClusterState.HEALTHY)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False


async def _cluster_or_none(api: ApiClient) -> dict[str, Any] | None:
    """Return the cluster's info; None while the active changes: no response, or a 503."""
    try:
        return await cluster(api)
    except ServerUnreachable:
        return None
    except RequestRefused as error:
        if error.status != UNAVAILABLE:
            raise
        return None


def lacks_node(info: dict[str, Any]) -> bool:
    """Return whether the VM of a configured node is gone."""
    nodes = (info.get(key) for key in ("node1", "node2", "witness"))
    return any(node is None or "placement" not in node.get("runtime", {}) for node in nodes)
