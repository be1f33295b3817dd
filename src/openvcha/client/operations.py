"""Operations on the cluster, through the API: failover, redeploy and its check."""

from itertools import count
from typing import Any

from openvcha.client.rest_client import ApiClient

FAILOVER = "/vcenter/vcha/cluster?action=failover&vmw-task=true"


async def fail_over(api: ApiClient, *, planned: bool) -> str:
    """Call cluster.failover, and return the task's id. Raises RequestRefused, ServerUnreachable."""
    return str(await api.call("POST", FAILOVER, {"planned": planned}))


def redeploy_path(role: str) -> str:
    """Return path and query of a role's redeploy."""
    return f"/vcenter/vcha/cluster/{role}?action=redeploy&vmw-task=true"


async def redeploy(api: ApiClient, role: str, spec: dict[str, Any]) -> str:
    """Call a role's redeploy, and return the task's id.

    Raises RequestRefused, ServerUnreachable.
    """
    return str(await api.call("POST", redeploy_path(role), spec))


async def check(api: ApiClient, role: str, placement: dict[str, Any]) -> dict[str, Any]:
    """Call a role's check, and return its warnings and errors.

    Raises RequestRefused, ServerUnreachable.
    """
    path = f"/vcenter/vcha/cluster/{role}?action=check"
    found: dict[str, Any] = await api.call("POST", path, {"placement": placement})
    return found


async def choose_folder(api: ApiClient) -> str | None:
    """Return the folder for VMs if there is exactly one."""
    found = await api.call("GET", "/vcenter/folder", query=[("type", "VIRTUAL_MACHINE")])
    return str(found[0]["folder"]) if len(found) == 1 else None


async def choose_name(api: ApiClient) -> str:
    """Return an unused VM name, vcha-N."""
    taken = {vm["name"].casefold() for vm in await api.call("GET", "/vcenter/vm")}
    return next(name for number in count(1) if (name := f"vcha-{number}") not in taken)
