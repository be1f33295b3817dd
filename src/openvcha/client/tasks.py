"""Tasks, through the API, for the command line and the lab."""

from typing import Any

from openvcha.api.operations import OPERATIONS
from openvcha.client.errors import CommandError, error_text
from openvcha.client.narrator import Narrator
from openvcha.client.rest_client import UNFINISHED_STATUSES, ApiClient

Info = dict[str, Any]
SERVICES = sorted({operation.service for operation in OPERATIONS if operation.task})


async def list_tasks(api: ApiClient, **sets: list[str]) -> dict[str, Info]:
    """Return the tasks of all services, the newest last; ``sets`` are fields of the filter."""
    spec = {"filter_spec": {"services": SERVICES, **sets}}
    found = await api.call("POST", "/cis/tasks?action=list", spec)
    return dict(sorted(found.items(), key=lambda item: item[1].get("start_time") or "9"))


async def running_task(api: ApiClient) -> tuple[str, Info] | None:
    """Return the unfinished task, if any: only one operation runs at a time."""
    found = await list_tasks(api, status=sorted(UNFINISHED_STATUSES))
    return next(iter(found.items()), None)


async def find_task(api: ApiClient, text: str | None) -> str:
    """Return the id that begins with ``text``; without it, that of the running or newest task.

    Raises CommandError if there is none, or more than one.
    """
    if text and ":" in text:
        return text
    found = await list_tasks(api)
    if text is None:
        return _unfinished(found) or _newest(found)
    matching = [key for key in found if key.startswith(text)]
    if len(matching) != 1:
        raise CommandError(f"{len(matching) or 'no'} tasks have an id that begins with {text!r}")
    return matching[0]


async def find_running(api: ApiClient, text: str | None) -> str:
    """Return the id that begins with ``text``; without it, that of the running task.

    Raises CommandError if no task is running.
    """
    if text is not None:
        return await find_task(api, text)
    running = await running_task(api)
    if running is None:
        raise CommandError("no task is running")
    return running[0]


async def follow(api: ApiClient, task: str, narrator: Narrator) -> dict[str, Any]:
    """Follow a task to its end and return its last info, whether it succeeded or failed."""
    info: dict[str, Any] = {}
    async for info in api.follow(task):
        narrator.task(info)
    return info


async def follow_to_success(api: ApiClient, task: str, narrator: Narrator) -> dict[str, Any]:
    """Follow a task to its end. Raises CommandError with its error if it fails."""
    info = await follow(api, task, narrator)
    if info["status"] != "SUCCEEDED":
        what = info["description"]["default_message"].rstrip(".")
        raise CommandError(
            f"{what}: {error_text(info.get('error') or {}) or 'failed'} (task {task})"
        )
    return info


def _unfinished(found: dict[str, Info]) -> str | None:
    return next((key for key, info in found.items() if info["status"] in UNFINISHED_STATUSES), None)


def _newest(found: dict[str, Info]) -> str:
    if not found:
        raise CommandError("there are no tasks")
    return list(found)[-1]
