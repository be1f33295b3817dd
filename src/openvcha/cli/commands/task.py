"""`vcha task`."""

import asyncio
import contextlib
import datetime as dt
from typing import Annotated, Any

import typer
from rich.text import Text

from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.options import AsJson
from openvcha.cli.output.console import console, progress_of, simple_table
from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import say, say_json
from openvcha.cli.target import Target, with_target
from openvcha.client.errors import error_text
from openvcha.client.tasks import Info, find_running, find_task, list_tasks

app = typer.Typer(help="Tasks, running and finished.", epilog=EPILOG, no_args_is_help=True)

Task = Annotated[
    str | None,
    typer.Argument(
        help="The task's id, or a unique prefix of it; default: the running task, else the newest."
    ),
]
Running = Annotated[
    str | None,
    typer.Argument(help="The task's id, or a unique prefix of it; default: the running task."),
]
SHORT = 8
_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "yellow"}


@app.command("list", epilog=EPILOG)
@with_target
def list_(
    *,
    target: Target,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only tasks with this status: PENDING, RUNNING, SUCCEEDED or FAILED."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest last."""
    found = asyncio.run(_list(target, status))
    if as_json:
        say_json(found, indent=2)
        return
    table = simple_table("task", "operation", "status", "done", "started", "took", "user")
    for key, info in found.items():
        table.add_row(*_row(key, info))
    console().print(table if found else "there are no tasks")


@app.command(epilog=EPILOG)
@with_target
def get(task: Task = None, *, target: Target) -> None:
    """Show a task as JSON."""

    async def work() -> Any:
        async with target.api() as api:
            return await api.call("GET", f"/cis/tasks/{await find_task(api, task)}")

    say_json(asyncio.run(work()), indent=2)


@app.command(epilog=EPILOG)
@with_target
def follow(task: Task = None, *, target: Target) -> None:
    """Show a task's progress until it ends; exit code 1 when it fails."""

    async def work() -> None:
        async with target.api() as api:
            await follow_task(api, await find_task(api, task))

    asyncio.run(work())


@app.command(epilog=EPILOG)
@with_target
def cancel(task: Running = None, *, target: Target) -> None:
    """Cancel a task: stop it at its next safe point and roll it back."""

    async def work() -> str:
        async with target.api() as api:
            found = await find_running(api, task)
            await api.call("POST", f"/cis/tasks/{found}?action=cancel")
            return found

    say(f"{asyncio.run(work())} is being canceled")


async def _list(target: Target, status: list[str] | None) -> dict[str, Info]:
    async with target.api() as api:
        return await list_tasks(api, **({"status": status} if status else {}))


def _row(key: str, info: Info) -> tuple[str | Text, ...]:
    completed, total, _ = progress_of(info)
    operation = f"{info['service']}.{info['operation']}".removeprefix("com.vmware.vcenter.vcha.")
    started, ended = _time(info.get("start_time")), _time(info.get("end_time"))
    error = error_text(info.get("error") or {})
    return (
        key[:SHORT],  # enough to select it: see find_task
        operation.removesuffix("$task"),
        Text(info["status"], _STYLES.get(info["status"], "")),
        error or f"{100 * completed // total} %",
        f"{started.astimezone():%m-%d %H:%M:%S}" if started else "-",
        f"{(ended - started).total_seconds():.1f} s" if started and ended else "-",
        info.get("user") or "-",
    )


def _time(text: str | None) -> dt.datetime | None:
    with contextlib.suppress(ValueError):
        return dt.datetime.fromisoformat(text) if text else None
    return None
