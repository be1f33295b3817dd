"""Manual failover, through the API."""

from openvcha.client.rest_client import ApiClient

PATH = "/vcenter/vcha/cluster?action=failover&vmw-task=true"


async def fail_over(api: ApiClient, *, planned: bool) -> str:
    """Call cluster.failover, and return the task's id. Raises RequestRefused, ServerUnreachable."""
    return str(await api.call("POST", PATH, {"planned": planned}))
