"""`vcha mode`: whether the cluster fails over automatically, and whether it replicates."""

import asyncio
from typing import Annotated

import typer

from openvcha.api.structures import ClusterMode
from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import say
from openvcha.cli.target import Target, with_target

app = typer.Typer(help="The cluster's mode.", epilog=EPILOG, no_args_is_help=True)

PATH = "/vcenter/vcha/cluster/mode"
MEANINGS = {
    ClusterMode.ENABLED: "replicates, and fails over automatically",
    ClusterMode.MAINTENANCE: "replicates; fails over only on request",
    ClusterMode.DISABLED: "neither replicates nor fails over; the standby is stopped",
}


@app.command(epilog=EPILOG)
@with_target
def show(*, target: Target) -> None:
    """Show the mode and what it means."""

    async def work() -> ClusterMode:
        async with target.api() as api:
            return ClusterMode((await api.call("GET", PATH))["mode"])

    mode = asyncio.run(work())
    say(f"{mode}: {MEANINGS[mode]}")


@app.command("set", epilog=EPILOG)
@with_target
def set_(
    mode: Annotated[ClusterMode, typer.Argument(case_sensitive=False, help="The new mode.")],
    *,
    target: Target,
    follow: Annotated[bool, typer.Option(help="Show the task's progress until it ends.")] = True,
) -> None:
    """Change the mode.

    ENABLED replicates, and fails over automatically. MAINTENANCE replicates, and fails over only on
    request. DISABLED does neither: the standby is stopped, and the active continues alone.
    """

    async def work() -> None:
        async with target.api() as api:
            task = await api.call("PUT", f"{PATH}?vmw-task=true", {"mode": mode.value})
            say(f"changing the mode to {mode}, task {task}")
            if follow:
                await follow_task(api, task)

    asyncio.run(work())
