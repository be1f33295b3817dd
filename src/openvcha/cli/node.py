"""`vcha node` and `vcha doctor`."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer

from openvcha.cli.lazy import Load, lazy
from openvcha.cli.root import node_directory
from openvcha.cli.saying import say, say_json, say_lines
from openvcha.node.account import NodeAccount
from openvcha.node.doctor import Verdict
from openvcha.node.doctor import doctor as examine
from openvcha.node.engines import EngineMissing
from openvcha.node.identity import IDENTITY, Identity, absolute, load_identity
from openvcha.node.inheritance import put_in_order
from openvcha.node.layout import Layout
from openvcha.node.lock import NodeRuns
from openvcha.node.plan import PartPlan, all_parts, engine_parts
from openvcha.node.privileges import RootStays, give_up_root, own_command_line
from openvcha.node.processes import NodeProcesses, StillAlive
from openvcha.node.status import NodeStatus, OwnView, load_status
from openvcha.node.supervised import for_ever
from openvcha.node.supervisor import Supervisor
from openvcha.store.account import AccountSource
from openvcha.store.protocol import GuardedStore

app = typer.Typer(
    # The service is a large program of its own: what only supervises does not load it.
    cls=lazy(
        {
            "service": Load("openvcha.cli.service:service", hidden=True),
            "make-standalone": Load("openvcha.cli.recovery:make_standalone"),
            "promote": Load("openvcha.cli.recovery:promote"),
            "token": Load("openvcha.cli.join:token"),
            "create": Load("openvcha.cli.join:create"),
            "store": Load("openvcha.cli.store:app"),
        }
    ),
    help="One node of the cluster.",
    no_args_is_help=True,
)

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NOT_RUNNING = 3
RELIED_SECONDS = 1.0


@app.command()
def run(
    directory: Directory,
    service: Annotated[
        bool, typer.Option(help="Serve the API and hold the public address too.")
    ] = True,
) -> None:
    """Run a node until SIGTERM: etcd, and on a data node Patroni, PostgreSQL and the API."""
    try:
        (directory / IDENTITY).lstat()  # what is no node's directory is given to nobody
        give_up_root(own_command_line(), directory)
        directory = absolute(directory)
        put_in_order()
        asyncio.run(_run(directory, all_parts if service else engine_parts))
    except (RootStays, EngineMissing, NodeRuns, StillAlive) as error:
        raise _refusal(str(error)) from error
    except (OSError, msgspec.DecodeError) as error:
        raise _refusal(f"the node in {directory} cannot be run: {error}") from error


@app.command()
def status(directory: Directory, as_json: AsJson = False) -> None:
    """Show a node's parts and how the node sees the cluster; exit code 3 when it does not run."""
    directory = node_directory(directory)
    found = load_status(directory)
    if found is None and not os.path.lexists(directory / IDENTITY):
        say_lines(f"vcha: {directory} is no node's directory: no {IDENTITY} is in it", err=True)
        raise typer.Exit(NOT_RUNNING)
    pids = NodeProcesses().find(directory)
    runs = found is not None and found.pid in pids
    if as_json:
        say_json({"running": runs, "processes": pids, "status": found})
    else:
        _show(found, runs, pids)
    if not runs:
        raise typer.Exit(NOT_RUNNING)


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has and what it lacks; exit code 1 when something is missing."""
    findings = examine()
    if as_json:
        say_json(findings)
    else:
        for finding in findings:
            say(f"{finding.verdict:<8} {finding.subject:<11} {finding.text}")
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(1)


async def _run(directory: Path, plan: PartPlan) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log = structlog.get_logger("peers")
    peers = asyncio.create_task(for_ever("peers", lambda: _peers(directory), log), name="peers")
    try:
        await Supervisor(
            directory, plan=plan, rewrite=partial(_stand_alone, NodeAccount(directory))
        ).run(stop)
    finally:
        peers.cancel()
        await asyncio.wait([peers])


async def _peers(directory: Path) -> None:
    """Keep on the nodes that a task needs; what carries them is loaded when there is a task."""
    layout, identity = Layout(directory), load_identity(directory)
    while not layout.relied.exists():  # noqa: ASYNC110 - written by a duty
        await asyncio.sleep(RELIED_SECONDS)
    from openvcha.serving.carrier import infrastructure_of  # noqa: PLC0415
    from openvcha.serving.peers import watch_peers  # noqa: PLC0415

    await watch_peers(layout, identity, infrastructure_of(identity))


async def _stand_alone(own: AccountSource, store: GuardedStore, identity: Identity) -> None:
    # Loaded when it is needed, which is hardly ever: it knows tasks and the whole contract.
    from openvcha.serving.standalone import stand_alone  # noqa: PLC0415

    await stand_alone(store, identity, own)


def _show(found: NodeStatus | None, runs: bool, pids: list[int]) -> None:
    if found is None:
        say("never started")
        return
    state = "running" if runs else f"not running ({len(pids)} processes left over)"
    say(f"{found.member} ({found.kind}): {state}")
    for part in found.parts:
        line = f"  {part.name:<9} {part.state:<12} restarts {part.restarts}"
        say(f"{line}  last: {part.last_exit}" if part.last_exit else line)
    if runs and found.view:
        say(f"  {_sees(found.view)}")
    if found.copy:
        say(f"  copy      {found.copy.state:<12} {found.copy.bytes_done} bytes")
    for duty, text in found.notes.items():
        say(f"  {duty:<9} {text}")


def _sees(view: OwnView) -> str:
    """Say in one line how the node sees itself."""
    writes = {True: ", takes writes", False: ", takes no writes", None: ""}[view.writable]
    line = f"{view.contact} since {view.since}: {view.role}{writes}"
    return f"{line}; does not hear {', '.join(view.waits_for)}" if view.waits_for else line


def _refusal(text: str) -> typer.Exit:
    say_lines(f"vcha: {text}", err=True)
    return typer.Exit(1)
