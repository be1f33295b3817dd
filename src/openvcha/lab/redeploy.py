"""Replacing the passive of a lab through the API."""

from itertools import count
from typing import Any

from openvcha.lab.client import ApiClient

PATH = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
CHECK = "/vcenter/vcha/cluster/passive?action=check"


async def redeploy(api: ApiClient, spec: dict[str, Any]) -> str:
    """Call passive.redeploy; gives the task's id. Raises Refused, Unreachable."""
    return str(await api.call("POST", PATH, spec))


async def check(api: ApiClient, placement: dict[str, Any]) -> dict[str, Any]:
    """Call passive.check; gives its warnings and errors. Raises Refused, Unreachable."""
    found: dict[str, Any] = await api.call("POST", CHECK, {"placement": placement})
    return found


async def choose_folder(api: ApiClient) -> str | None:
    """Give the folder for VMs when there is only one."""
    found = await api.call("GET", "/vcenter/folder", query=[("type", "VIRTUAL_MACHINE")])
    return str(found[0]["folder"]) if len(found) == 1 else None


async def choose_name(api: ApiClient) -> str:
    """Give a name that no VM has: vcha-N."""
    taken = {vm["name"].casefold() for vm in await api.call("GET", "/vcenter/vm")}
    return next(name for number in count(1) if (name := f"vcha-{number}") not in taken)
