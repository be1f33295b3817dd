"""Deploying the other two nodes through the API, and following what runs there."""

from typing import Any

from openvcha.infrastructure.inventory import Inventory
from openvcha.lab.client import ApiClient
from openvcha.lab.errors import LabFailed, error_text
from openvcha.lab.narrator import Narrator
from openvcha.lab.state import LabState

DEPLOY = "/vcenter/vcha/cluster?action=deploy&vmw-task=true"
GET = "/vcenter/vcha/cluster?action=get"


async def cluster(api: ApiClient, *, partial: bool = False) -> dict[str, Any]:
    """Ask for the cluster's info; ``partial`` without the placements."""
    info: dict[str, Any] = await api.call("POST", GET, {"partial": partial})
    return info


async def deploy(api: ApiClient, state: LabState, inventory: Inventory) -> str:
    """Call deploy with placements and addresses; gives the task's id."""
    folder = vm_folder(inventory)

    def node(number: int) -> dict[str, Any]:
        placement = {"name": f"vcha-{number}", "folder": folder}
        return {"ha_ip": _ip(state.ha_address(number)), "placement": placement}

    spec = {
        "deployment": "AUTO",
        "active": {"ha_ip": _ip(state.ha_address(1))},
        "passive": node(2),
        "witness": node(3),
    }
    return str(await api.call("POST", DEPLOY, spec))


async def follow(api: ApiClient, task: str, narrator: Narrator) -> dict[str, Any]:
    """Follow a task to its end and give its last info, whether it succeeded or failed."""
    info: dict[str, Any] = {}
    async for info in api.follow(task):
        narrator.task(info)
    return info


async def follow_to_success(api: ApiClient, task: str, narrator: Narrator) -> dict[str, Any]:
    """Follow a task to its end. Raises LabFailed with its error when it fails."""
    info = await follow(api, task, narrator)
    if info["status"] != "SUCCEEDED":
        what = info["description"]["default_message"].rstrip(".")
        raise LabFailed(f"{what}: {error_text(info.get('error') or {}) or 'failed'} (task {task})")
    return info


def vm_folder(inventory: Inventory) -> str:
    """Give the folder that VMs go to."""
    return next(f.id for f in inventory.folders if f.type == "VIRTUAL_MACHINE")


def _ip(address: str) -> dict[str, Any]:
    return {"ip_family": "IPV4", "ipv4": {"address": address, "prefix": 24}}
