"""Deployment of the other two nodes through the API."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from openvcha.client.rest_client import ApiClient
from openvcha.infrastructure.inventory import Inventory
from openvcha.lab.state import LabState

DEPLOY = "/vcenter/vcha/cluster?action=deploy&vmw-task=true"
GET = "/vcenter/vcha/cluster?action=get"


async def cluster(api: ApiClient, *, partial: bool = False) -> dict[str, Any]:
    """Return the cluster's info; if ``partial``, without the placements."""
    info: dict[str, Any] = await api.call("POST", GET, {"partial": partial})
    return info


async def deploy(api: ApiClient, state: LabState, inventory: Inventory, active: str) -> str:
    """Call deploy with the HA address ``active`` of the active node; return the task's id.

    The other nodes get the first unused names and addresses: an undeploy may have kept some VMs.
    """
    folder = vm_folder(inventory)
    numbers = free_numbers(state, inventory)

    def node() -> dict[str, Any]:
        number = next(numbers)
        placement = {"name": f"vcha-{number}", "folder": folder}
        return {"ha_ip": _ip(state.ha_address(number)), "placement": placement}

    spec = {
        "deployment": "AUTO",
        "active": {"ha_ip": _ip(active)},
        "passive": node(),
        "witness": node(),
    }
    return str(await api.call("POST", DEPLOY, spec))


def free_numbers(state: LabState, inventory: Inventory) -> Iterator[int]:
    """Yield numbers of nodes whose name and HA address no VM uses."""
    names = {vm.name.casefold() for vm in inventory.vms}
    addresses = {address for vm in inventory.vms for address in vm.addresses}
    for number in count(1):
        if f"vcha-{number}" not in names and state.ha_address(number) not in addresses:
            yield number


def vm_folder(inventory: Inventory) -> str:
    """Return the folder for VMs."""
    return next(f.id for f in inventory.folders if f.type == "VIRTUAL_MACHINE")


def _ip(address: str) -> dict[str, Any]:
    return {"ip_family": "IPV4", "ipv4": {"address": address, "prefix": 24}}
