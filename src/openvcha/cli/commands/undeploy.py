"""`vcha undeploy`: from three nodes to one."""

import asyncio
import sys
from typing import Annotated

import typer

from openvcha.cli.exit_codes import Code
from openvcha.cli.output.errors import fail
from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import confirm, say
from openvcha.cli.target import Target, with_target

PATH = "/vcenter/vcha/cluster?action=undeploy&vmw-task=true"


@with_target
def undeploy(
    *,
    target: Target,
    delete_vms: Annotated[
        bool,
        typer.Option(help="Delete the VMs of the other two nodes, including the passive's data."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    follow: Annotated[bool, typer.Option(help="Show the task's progress until it ends.")] = True,
) -> None:
    """Dissolve the cluster; the active continues alone, and `deploy` makes it a cluster again."""
    if not yes and not _confirmed(delete_vms=delete_vms):
        raise fail("nothing was changed")

    async def work() -> None:
        async with target.api() as api:
            task = str(await api.call("POST", PATH, {"force_delete": delete_vms}))
            say(f"undeploying the cluster, task {task}")
            if follow:
                await follow_task(api, task)

    asyncio.run(work())


def _confirmed(*, delete_vms: bool) -> bool:
    if not sys.stdin.isatty():
        raise fail("there is no terminal to confirm on; use --yes", Code.USAGE)
    what = "are deleted" if delete_vms else "are kept, without keys and passwords"
    return confirm(f"Dissolve the cluster? The VMs of the passive and the witness {what}.")
