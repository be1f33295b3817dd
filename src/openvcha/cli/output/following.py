"""Following a task on the screen."""

from typing import Any

from openvcha.cli.output.console import narrator, progress_of
from openvcha.cli.output.errors import fail
from openvcha.cli.output.plain import say
from openvcha.client.errors import error_text
from openvcha.client.rest_client import ApiClient
from openvcha.client.tasks import follow


async def follow_task(api: ApiClient, task: str) -> None:
    """Show a task's progress until it ends; exit with FAILED if it fails."""
    info = await api.call("GET", f"/cis/tasks/{task}")
    out = narrator()
    with out.step(info["description"]["default_message"].rstrip(".")):
        ended = await follow(api, task, out)
        if ended["status"] != "SUCCEEDED":
            raise fail(_why(ended))
    _, _, message = progress_of(ended)
    say(f"{ended['status']}: {message}")


def _why(info: dict[str, Any]) -> str:
    return error_text(info.get("error") or {}) or f"the task is {info['status']}"
