"""`vcha lab`: a whole cluster on this machine."""

import asyncio
import shlex
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from openvcha.api.errors import ApiError
from openvcha.cli.accounts import acting_as_controller, lab_as_owner, new_lab_as_owner, readable_lab
from openvcha.cli.exit_codes import EPILOG, Code
from openvcha.cli.lab import logs, show
from openvcha.cli.lab.settings_options import (
    ApiWorkers,
    LagAfter,
    LeaderTtl,
    PeersAfter,
    StoreQuota,
    StuckAfter,
)
from openvcha.cli.options import AsJson, Base, Name, command
from openvcha.cli.output.console import console, narrator
from openvcha.cli.output.errors import fail
from openvcha.cli.output.plain import confirm, say, say_exactly, say_json
from openvcha.client.errors import CommandError
from openvcha.lab import folders, power
from openvcha.lab.access import database
from openvcha.lab.folders import DEFAULT_NAME
from openvcha.lab.state import ADMINISTRATOR, Lab
from openvcha.lab.status import Overall
from openvcha.lab.status import status as lab_status
from openvcha.system.files.path_owners import CannotDropRoot

app = typer.Typer(
    help="A three-node cluster on this machine, on loopback addresses.",
    epilog=EPILOG,
    no_args_is_help=True,
)


class CurrentRole(StrEnum):
    """A node, by its current role."""

    ACTIVE = "active"
    PASSIVE = "passive"
    WITNESS = "witness"


@app.command(epilog=EPILOG)
def up(
    name: Name = DEFAULT_NAME,
    base: Base = None,
    *,
    active_only: Annotated[
        bool,
        typer.Option(
            "--active-only", help="Start only the active node; deploy the others yourself."
        ),
    ] = False,
    store_quota: StoreQuota = None,
    leader_ttl: LeaderTtl = None,
    stuck_after: StuckAfter = None,
    peers_after: PeersAfter = None,
    api_workers: ApiWorkers = None,
    lag_after: LagAfter = None,
) -> None:
    """Bring the lab up; what is already there stays as it is.

    An existing lab keeps its settings, and is not brought up if other ones are given.
    """
    # Imported here: no other lab command creates certificates, users and nodes.
    from openvcha.cli.lab.summary import summary  # noqa: PLC0415
    from openvcha.lab.settings import SettingsRequest  # noqa: PLC0415
    from openvcha.lab.up import up as bring_up  # noqa: PLC0415

    began = time.monotonic()
    lab = new_lab_as_owner(name, base)
    settings = SettingsRequest(
        quota_bytes=store_quota,
        leader_ttl=leader_ttl,
        stuck_standby=stuck_after,
        stopped_store=peers_after,
        replication_lag=lag_after,
        workers=api_workers,
    )
    try:
        healthy = asyncio.run(bring_up(lab, narrator(), active_only=active_only, settings=settings))
    except KeyboardInterrupt:
        only = " --active-only" if active_only else ""
        again = command(f"lab up{only}{settings.words}", name, base)
        raise fail(f"interrupted; `{again}` continues from here", Code.INTERRUPTED) from None
    seconds = time.monotonic() - began
    asyncio.run(summary(lab, seconds, lambda words: command(words, name, base)))
    if not healthy:
        raise typer.Exit(Code.FAILED)


@app.command(epilog=EPILOG)
def status(name: Name = DEFAULT_NAME, base: Base = None, as_json: AsJson = False) -> None:
    """Show the nodes, the cluster's health and running tasks; exit code 0 means HEALTHY."""
    found = asyncio.run(lab_status(readable_lab(name, base)))
    if as_json:
        say_json(found, indent=2)
    else:
        show.show_status(found, lambda words: command(words, name, base))
    if found.state is Overall.DOWN:
        raise typer.Exit(Code.DOWN)
    if found.state is not Overall.HEALTHY:
        raise typer.Exit(Code.FAILED)


@app.command(epilog=EPILOG)
def kill(
    role: Annotated[CurrentRole, typer.Argument(help="The node, by its current role.")],
    name: Name = DEFAULT_NAME,
    base: Base = None,
) -> None:
    """Kill a node, as a power loss does; `vcha lab up` starts it again."""
    vm, ran = asyncio.run(power.kill(lab_as_owner(name, base), role))
    if not ran:
        say(f"{vm.name} ({role}) is already off")
        return
    say(f"{vm.name} ({role}) was killed; its data are kept")
    say(f"  {command('lab up', name, base)}      starts it again")


@app.command(epilog=EPILOG)
def destroy(
    node: Annotated[
        str,
        typer.Argument(help="passive, witness, or the name of a VM that is not the cluster's."),
    ],
    name: Name = DEFAULT_NAME,
    base: Base = None,
) -> None:
    """Kill a node and delete it with its data, as the loss of a host does."""
    if node == CurrentRole.ACTIVE:
        raise typer.BadParameter("the active cannot be destroyed: the API cannot replace it")
    vm = asyncio.run(power.destroy(lab_as_owner(name, base), node))
    if node not in show.REPAIRS:
        say(f"{vm.name} was deleted with its data")
        return
    say(f"{vm.name} ({node}) was deleted with its data")
    words, meaning = show.REPAIRS[node]
    say(f"  {command(words, name, base)}      {meaning}")


@app.command(epilog=EPILOG)
def directory(
    node: Annotated[str, typer.Argument(help="active, passive, witness, or a node's name.")],
    name: Name = DEFAULT_NAME,
    base: Base = None,
) -> None:
    """Print a node's directory, for `vcha node` commands."""
    vm = asyncio.run(power.find(lab_as_owner(name, base), node))
    say_exactly(vm.directory)


@app.command(epilog=EPILOG)
def down(name: Name = DEFAULT_NAME, base: Base = None) -> None:
    """Stop all nodes in order; the lab is kept, and `vcha lab up` starts it again."""
    lab = lab_as_owner(name, base)
    stopped = asyncio.run(power.down(lab, narrator()))
    if not stopped:
        say("the lab is already down")


@app.command(epilog=EPILOG)
def reset(
    name: Name = DEFAULT_NAME,
    base: Base = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Stop the lab and delete it with all its data."""
    lab = lab_as_owner(name, base)
    if not yes and not _confirmed(f"Delete the lab {name!r} in {lab.directory} with all its data?"):
        raise fail("nothing was deleted")
    asyncio.run(power.reset(lab, narrator()))


@app.command("list", epilog=EPILOG)
def list_(base: Base = None, as_json: AsJson = False) -> None:
    """List all labs; one that cannot be read has its row too, with the reason."""
    bases = [base] if base else [folders.user_base(), folders.SHARED]
    rows = [_row(lab) for lab in folders.labs(bases)]
    if as_json:
        say_json(rows)
    elif rows:
        console().print(show.lab_table(rows))
    else:
        say(f"there are no labs in {bases[0]}: `{command('lab up', base=base)}` creates one")


@app.command(epilog=EPILOG)
def env(name: Name = DEFAULT_NAME, base: Base = None) -> None:
    """Print variables for a shell: eval "$(vcha lab env)".

    API, CA, VCHA_USER and PASSWORD are for curl and the SDK, PGHOST and so on for psql. Because
    one of them is a password, this command does not print to a terminal.
    """
    if sys.stdout.isatty():
        words = command("lab env", name, base)
        raise fail(f'the output contains a password; use: eval "$({words})"', Code.USAGE)
    lab = readable_lab(name, base)
    variables = {
        "API": lab.state().api,
        "CA": str(lab.ca),
        "VCHA_USER": ADMINISTRATOR,
        "PASSWORD": lab.password(ADMINISTRATOR).reveal(),
        **_libpq(asyncio.run(database(lab))),
    }
    for key, value in variables.items():
        say_exactly(f"export {key}={shlex.quote(value)}")


app.command("logs", epilog=EPILOG)(logs.logs)


def _row(lab: Lab) -> show.LabRow:
    try:
        with acting_as_controller(lab):
            return asyncio.run(show.row(lab))
    except (CommandError, CannotDropRoot, ApiError, OSError) as error:
        return show.broken_row(lab, str(error))


def _libpq(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return libpq's parameters as its environment variables."""
    names = {"dbname": "PGDATABASE"}
    return {names.get(key, f"PG{key.upper()}"): value for key, value in parameters.items()}


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise fail("there is no terminal to confirm on; use --yes", Code.USAGE)
    return confirm(question)
