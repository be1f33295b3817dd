"""`vcha node` and `vcha doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from openvcha.cli.accounts import node_directory
from openvcha.cli.exit_codes import EPILOG, Code
from openvcha.cli.lazy_commands import LazyCommand, lazy_group
from openvcha.cli.output.plain import say, say_json
from openvcha.node.doctor import DoctorVerdict
from openvcha.node.doctor import doctor as examine
from openvcha.node.identity import IDENTITY
from openvcha.node.process.process_tree import NodeProcesses
from openvcha.node.process.status import NodeStatus, OwnView, load_status

COMMANDS = {
    "service": LazyCommand(
        "openvcha.cli.node.programs:service",
        "Hold the public address and run tasks on the active node (the supervisor starts this).",
        hidden=True,
    ),
    "api": LazyCommand(
        "openvcha.cli.node.programs:api",
        "Serve the API while this node is the active one (the supervisor starts this).",
        hidden=True,
    ),
    "address": LazyCommand(
        "openvcha.cli.node.programs:address",
        "Hold the public address on an interface (root's service manager starts this).",
        hidden=True,
    ),
    "make-standalone": LazyCommand(
        "openvcha.cli.node.recovery:make_standalone",
        "Make this node a cluster of its own when both others are gone for good.",
    ),
    "promote": LazyCommand(
        "openvcha.cli.node.recovery:promote",
        "Make this passive the primary when the active is lost and Patroni does not promote it.",
    ),
    "token": LazyCommand(
        "openvcha.cli.node.manual_join:token",
        "Print a token with which one node may join; shown once, it replaces the previous one.",
    ),
    "tokens": LazyCommand(
        "openvcha.cli.node.manual_join:tokens",
        "List the join tokens: who issued them, and whether they are valid and used.",
    ),
    "create": LazyCommand(
        "openvcha.cli.node.manual_join:create",
        "Create a node that joins a cluster, in a new directory; run it with `vcha node run`.",
    ),
    "store": LazyCommand(
        "openvcha.cli.node.store:app", "The cluster's store, reached through a node."
    ),
}

app = typer.Typer(
    # The service is a large program, which the supervisor does not load.
    cls=lazy_group(COMMANDS),
    help="One node of the cluster.",
    epilog=EPILOG,
    no_args_is_help=True,
)

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    directory: Directory,
    service: Annotated[
        bool, typer.Option(help="Also serve the API and hold the public address.")
    ] = True,
) -> None:
    """Run a node until SIGTERM: etcd, and on a data node Patroni, PostgreSQL and the API."""
    from openvcha.cli.running import NodeCannotRun, run_node  # noqa: PLC0415 - for this command only

    try:
        run_node(directory, service=service)
    except NodeCannotRun as error:
        say(f"vcha: {error}", err=True)
        raise typer.Exit(Code.FAILED) from error


@app.command()
def bootstrap(directory: Directory) -> None:
    """Join the cluster that a new node's boot file names, then run the node until SIGTERM.

    The programs that create nodes start this. A complete node just runs.
    """
    from openvcha.cli.running import NodeCannotRun, bootstrap_node  # noqa: PLC0415 - as above

    try:
        bootstrap_node(directory)
    except NodeCannotRun as error:
        say(f"vcha: {error}", err=True)
        raise typer.Exit(Code.FAILED) from error


@app.command()
def status(directory: Directory, as_json: AsJson = False) -> None:
    """Show a node's parts and how it sees the cluster; exit code 3 when it is not running."""
    directory = node_directory(directory)
    found = load_status(directory)
    if found is None and not os.path.lexists(directory / IDENTITY):
        say(f"vcha: {directory} is not a node's directory: it has no {IDENTITY}", err=True)
        raise typer.Exit(Code.DOWN)
    pids = NodeProcesses().find(directory)
    runs = found is not None and found.pid in pids
    if as_json:
        say_json({"running": runs, "processes": pids, "status": found})
    else:
        _show(found, runs, pids)
    if not runs:
        raise typer.Exit(Code.DOWN)


def doctor(as_json: AsJson = False) -> None:
    """Check what this machine has and what it lacks; exit code 1 when something is missing."""
    findings = examine()
    if as_json:
        say_json(findings)
    else:
        for finding in findings:
            say(f"{finding.verdict:<8} {finding.subject:<11} {finding.text}")
    if any(finding.verdict is DoctorVerdict.MISSING for finding in findings):
        raise typer.Exit(Code.FAILED)


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
        say(f"  {_describe_view(found.view)}")
    if found.copy:
        say(f"  copy      {found.copy.state:<12} {found.copy.bytes_done} bytes")
    for job, text in found.notes.items():
        say(f"  {job:<9} {text}")


def _describe_view(view: OwnView) -> str:
    """Return the node's view of itself, in one line."""
    writes = {True: ", accepts writes", False: ", read-only", None: ""}[view.writable]
    line = f"{view.contact} since {view.since}: {view.role}{writes}"
    return f"{line}; cannot reach {', '.join(view.waits_for)}" if view.waits_for else line
