"""`vcha passive` and `vcha witness`: replacing a lost node."""

import asyncio
from typing import Annotated, Any

import typer

from openvcha.api.structures import NetworkType
from openvcha.cli.exit_codes import EPILOG, Code
from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import say
from openvcha.cli.target import Target, with_target
from openvcha.client import operations
from openvcha.client.errors import CommandError
from openvcha.client.rest_client import ApiClient

PANEL = "Where to put the new node; anything left out is chosen for you"


def _placement(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel=PANEL)


VmName = Annotated[
    str | None, typer.Option("--placement-name", help="The VM's name.", rich_help_panel=PANEL)
]
Folder = Annotated[str | None, _placement("The VM's folder: `vcha call folder.list`.")]
Host = Annotated[str | None, _placement("The host: `vcha call host.list`.")]
Datastore = Annotated[str | None, _placement("The datastore: `vcha call datastore.list`.")]
Pool = Annotated[str | None, _placement("The resource pool: `vcha call resource_pool.list`.")]
HaNetwork = Annotated[str | None, _placement("The network between the nodes; set its type too.")]
Network = Annotated[str | None, _placement("The network of the public address; set its type too.")]
HaNetworkType = Annotated[NetworkType | None, _placement("The type of --ha-network.")]
ManagementType = Annotated[NetworkType | None, _placement("The type of --management-network.")]


@with_target
def redeploy(
    ctx: typer.Context,
    *,
    target: Target,
    placement_name: VmName = None,
    folder: Folder = None,
    host: Host = None,
    datastore: Datastore = None,
    resource_pool: Pool = None,
    ha_network: HaNetwork = None,
    ha_network_type: HaNetworkType = None,
    management_network: Network = None,
    management_network_type: ManagementType = None,
    follow: Annotated[bool, typer.Option(help="Show the task's progress until it ends.")] = True,
) -> None:
    """Replace the lost node with a new one while the active keeps serving."""
    wanted = {
        "host": host,
        "resource_pool": resource_pool,
        "ha_network": ha_network,
        "ha_network_type": ha_network_type,
        "management_network": management_network,
        "management_network_type": management_network_type,
        "storage": {"datastore": datastore} if datastore else None,
    }

    async def work() -> None:
        async with target.api() as api:
            placement = await _chosen(api, placement_name, folder, wanted)
            task = await operations.redeploy(api, ctx.obj, {"placement": placement})
            say(f"redeploying the {ctx.obj} as {placement['name']}, task {task}")
            if follow:
                await follow_task(api, task)

    asyncio.run(work())


@with_target
def check(
    ctx: typer.Context,
    *,
    target: Target,
    placement_name: VmName = None,
    folder: Folder = None,
    host: Host = None,
    datastore: Datastore = None,
    resource_pool: Pool = None,
) -> None:
    """Check for anything that would prevent a redeploy; exit code 1 when there is something."""
    wanted = {
        "host": host,
        "resource_pool": resource_pool,
        "storage": {"datastore": datastore} if datastore else None,
    }

    async def work() -> dict[str, Any]:
        async with target.api() as api:
            placement = await _chosen(api, placement_name, folder, wanted)
            return await operations.check(api, ctx.obj, placement)

    found = asyncio.run(work())
    for kind in ("errors", "warnings"):
        for message in found[kind]:
            say(f"{kind.removesuffix('s')}: {message['default_message']}")
    if found["errors"]:
        raise typer.Exit(Code.FAILED)
    say("nothing prevents a redeploy")


async def _chosen(
    api: ApiClient, name: str | None, folder: str | None, wanted: dict[str, Any]
) -> dict[str, Any]:
    """Return the placement, with required fields filled in if possible. Raises CommandError."""
    folder = folder or await operations.choose_folder(api)
    if folder is None:
        raise CommandError(
            "there is more than one folder; use --folder (the operation folder.list lists them)"
        )
    given = {key: value for key, value in wanted.items() if value is not None}
    return {"name": name or await operations.choose_name(api), "folder": folder, **given}


def _commands(role: str) -> typer.Typer:
    """Return the commands for one role, which they read from their context."""
    app = typer.Typer(epilog=EPILOG, no_args_is_help=True)

    @app.callback(help=f"The {role} node.", epilog=EPILOG)
    def remember(ctx: typer.Context) -> None:
        ctx.obj = role

    app.command(epilog=EPILOG)(redeploy)
    app.command(epilog=EPILOG)(check)
    return app


passive = _commands("passive")
witness = _commands("witness")
