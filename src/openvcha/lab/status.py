"""The status of a lab, from its API and from what is known without it."""

import asyncio
from enum import StrEnum
from typing import Any

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import ClusterState, ConfigState
from openvcha.client.errors import CommandError, RequestRefused, ServerUnreachable
from openvcha.client.tasks import running_task
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.infrastructure.local.switch_client import SwitchClient, SwitchUnavailable
from openvcha.lab.access import authenticated_client, is_on, lab_inventory, load_vm_identity
from openvcha.lab.roles import Roles, find_roles
from openvcha.lab.state import Lab
from openvcha.node.identity import Ports

ASK_SECONDS = 10.0


class Overall(StrEnum):
    """The overall state of a lab."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    ISOLATED = "ISOLATED"
    SINGLE = "SINGLE"  # one node; not deployed yet
    INVALID = "INVALID"  # one node, and the remnants of a failed deployment
    UNKNOWN = "UNKNOWN"  # nodes run, but the API does not respond
    DOWN = "DOWN"


class LabNodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node; ``role`` and ``state`` are None if unknown."""

    name: str
    role: str | None = None
    state: str | None = None
    power: str | None = None
    host: str | None = None
    datastore: str | None = None
    ha_address: str | None = None
    vm: str | None = None


class Warning_(msgspec.Struct, frozen=True, kw_only=True):  # noqa: N801 - the plain name is Python's
    """A problem, and what to do about it."""

    error: str
    recommendation: str | None = None


class RunningTask(msgspec.Struct, frozen=True, kw_only=True):
    """The running operation."""

    id: str
    operation: str
    status: str
    completed: int = 0
    total: int = 0
    message: str = ""


class AddressHolders(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes to which the lab's switch passes the connections; None: nobody."""

    address: str
    database: str | None = None
    api: str | None = None


class LabStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a lab; ``api_problem`` says why the API could not be queried."""

    name: str
    directory: str
    state: Overall
    api: str
    api_problem: str | None = None
    config_state: str | None = None
    mode: str | None = None
    public_address: AddressHolders | None = None
    warnings: tuple[Warning_, ...] = ()
    nodes: tuple[LabNodeStatus, ...] = ()
    task: RunningTask | None = None


async def status(lab: Lab) -> LabStatus:
    """Return a lab's status. Raises CommandError if its files are unreadable."""
    state = lab.state()
    inventory = await lab_inventory(lab)
    base = LabStatus(
        name=state.name,
        directory=str(lab.directory),
        state=Overall.DOWN,
        api=state.api,
        public_address=await _holders(lab),
    )
    if not any(map(is_on, inventory.vms)):
        nodes = tuple(_without_api(inventory, vm, None) for vm in inventory.vms)
        return msgspec.structs.replace(base, nodes=nodes)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await _asked(base, lab, inventory)
    except (CommandError, RequestRefused, ServerUnreachable, TimeoutError) as error:
        reason = str(error) or f"it did not respond within {ASK_SECONDS:g} s"
    known = await find_roles(inventory)
    return msgspec.structs.replace(
        base,
        state=Overall.UNKNOWN,
        api_problem=reason,
        nodes=tuple(_without_api(inventory, vm, known.of(vm)) for vm in inventory.vms),
    )


async def _holders(lab: Lab) -> AddressHolders | None:
    """Return who holds the public address, as the lab's switch says; None if it cannot be asked."""
    address, ports = lab.state().public_address, Ports()
    try:
        held = await SwitchClient(lab.infrastructure).held()
    except SwitchUnavailable:
        return None
    by_port = {one.place.port: one.holder for one in held if one.place.address == address}
    return AddressHolders(
        address=address, database=by_port.get(ports.postgres), api=by_port.get(ports.api)
    )


async def _asked(base: LabStatus, lab: Lab, inventory: Inventory) -> LabStatus:
    async with authenticated_client(lab) as api:
        info = await api.call("POST", "/vcenter/vcha/cluster?action=get")
        task = await running_task(api)
    state = _overall(info)
    # Otherwise the status would not show which of them to keep.
    known = await find_roles(inventory) if state is Overall.INVALID else Roles({})
    warnings = tuple(
        Warning_(error=_text(w["error"]) or "", recommendation=_text(w.get("recommendation")))
        for w in info.get("health_warnings", ())
    )
    return msgspec.structs.replace(
        base,
        state=state,
        config_state=info.get("config_state"),
        mode=info.get("mode"),
        warnings=warnings,
        nodes=_nodes(info, inventory, known),
        task=_task(*task) if task else None,
    )


def _overall(info: dict[str, Any]) -> Overall:
    if (state := info.get("config_state")) != ConfigState.CONFIGURED:
        return Overall.INVALID if state == ConfigState.INVALID else Overall.SINGLE
    return Overall(info.get("health_state") or ClusterState.DEGRADED.value)


def _nodes(info: dict[str, Any], inventory: Inventory, known: Roles) -> tuple[LabNodeStatus, ...]:
    """Return the cluster's nodes by role, then the VMs that do not belong to it."""
    configured = [info[key] for key in ("node1", "node2", "witness") if key in info]
    shown = [_with_api(node, inventory) for node in configured]
    named = {node.vm for node in shown}
    shown.sort(key=lambda node: ("ACTIVE", "PASSIVE", "WITNESS").index(node.role or "WITNESS"))
    rest = (vm for vm in inventory.vms if vm.id not in named)
    return *shown, *(_without_api(inventory, vm, known.of(vm)) for vm in rest)


def _with_api(node: dict[str, Any], inventory: Inventory) -> LabNodeStatus:
    runtime = node.get("runtime", {})
    placement = runtime.get("placement") or {}
    uuid = placement.get("bios_uuid")
    vm = next((vm for vm in inventory.vms if vm.bios_uuid == uuid), None)
    family = node["ha_ip"].get("ipv4") or node["ha_ip"].get("ipv6") or {}
    return LabNodeStatus(
        name=placement.get("vm_name") or "(gone)",
        role=runtime.get("role"),
        state=runtime.get("state"),
        power=_power(vm) if vm else None,
        host=placement.get("host_name"),
        datastore=(placement.get("storage") or {}).get("datastore_name"),
        ha_address=family.get("address"),
        vm=vm.id if vm else None,
    )


def _without_api(inventory: Inventory, vm: Vm, role: str | None) -> LabNodeStatus:
    identity = load_vm_identity(vm)
    kind = None if identity is None or identity.holds_data else "WITNESS"
    host, datastore = inventory.host(vm.host), inventory.datastore(vm.datastore)
    return LabNodeStatus(
        name=vm.name,
        role=role.upper() if role else kind,
        power=_power(vm),
        host=host.name if host else vm.host,
        datastore=datastore.name if datastore else vm.datastore,
        ha_address=identity.ha_address if identity else next(iter(vm.addresses), None),
        vm=vm.id,
    )


def _power(vm: Vm) -> str:
    return "on" if is_on(vm) else "off"


def _text(message: dict[str, Any] | None) -> str | None:
    return message.get("default_message") if message else None


def _task(key: str, info: dict[str, Any]) -> RunningTask:
    progress = info.get("progress") or {}
    return RunningTask(
        id=key,
        operation=f"{info['service']}.{info['operation']}".removesuffix("$task"),
        status=info["status"],
        completed=progress.get("completed", 0),
        total=progress.get("total", 0),
        message=_text(progress.get("message")) or "",
    )


prepare(__name__)
