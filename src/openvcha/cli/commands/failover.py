"""`vcha failover`."""

import asyncio
from typing import Annotated

import typer

from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import say
from openvcha.cli.target import Target, with_target
from openvcha.client.operations import fail_over


@with_target
def failover(
    *,
    target: Target,
    forced: Annotated[
        bool,
        typer.Option(
            "--forced",
            help="Fail over immediately, without waiting for the active to write a checkpoint.",
        ),
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show the task's progress until it ends.")] = True,
) -> None:
    """Fail over to the passive. Even with --forced, no acknowledged row is lost."""

    async def work() -> None:
        async with target.api() as api:
            task = await fail_over(api, planned=not forced)
            say(f"failing over{' immediately' if forced else ''}, task {task}")
            if follow:
                await follow_task(api, task)

    asyncio.run(work())
