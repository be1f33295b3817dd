"""`vcha`, the only command."""

import typer

from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.lazy_commands import LazyCommand, lazy_group
from openvcha.cli.output.errors import ErrorReportingGroup
from openvcha.cli.output.logs import log_to_stderr

COMMANDS = {
    "lab": LazyCommand(
        "openvcha.cli.lab.commands:app",
        "A three-node cluster on this machine, on loopback addresses.",
    ),
    "demo": LazyCommand(
        "openvcha.cli.lab.demo:demo",
        "Destroy the passive under load, redeploy it, and check that no acknowledged row is lost.",
    ),
    "failover": LazyCommand(
        "openvcha.cli.commands.failover:failover",
        "Fail over to the passive. Even with --forced, no acknowledged row is lost.",
    ),
    "passive": LazyCommand("openvcha.cli.commands.redeploy:passive", "The passive node."),
    "witness": LazyCommand("openvcha.cli.commands.redeploy:witness", "The witness node."),
    "mode": LazyCommand("openvcha.cli.commands.mode:app", "The cluster's mode."),
    "undeploy": LazyCommand(
        "openvcha.cli.commands.undeploy:undeploy",
        "Dissolve the cluster; the active continues alone, and `deploy` makes it a cluster again.",
    ),
    "task": LazyCommand("openvcha.cli.commands.task:app", "Tasks, running and finished."),
    "events": LazyCommand(
        "openvcha.cli.commands.events:events", "Show the cluster's events, newest last."
    ),
    "audit": LazyCommand(
        "openvcha.cli.commands.events:audit", "Show who changed what, newest last."
    ),
    "call": LazyCommand(
        "openvcha.cli.commands.call:app",
        "Call an operation of the API by its full name or its last parts, such as"
        " passive.redeploy.",
    ),
    "user": LazyCommand(
        "openvcha.cli.commands.user:app",
        "Users of the API and their roles: Administrator, ReadOnly, NoAccess.",
    ),
    "openapi": LazyCommand(
        "openvcha.cli.commands.openapi:openapi", "Print the OpenAPI 3.0.3 description of the API."
    ),
    "init": LazyCommand(
        "openvcha.cli.node.init:init",
        "Create the first node of a cluster on this machine; `vcha node run` then runs it.",
    ),
    "config": LazyCommand(
        "openvcha.cli.node.config:app", "The settings with which `vcha init` creates a node."
    ),
    "doctor": LazyCommand(
        "openvcha.cli.node.commands:doctor",
        "Check what this machine has and what it lacks; exit code 1 when something is missing.",
    ),
    "host": LazyCommand("openvcha.cli.commands.host:app", "Prepare a machine to run nodes."),
    "hosts": LazyCommand(
        "openvcha.cli.commands.hosts:app",
        "The Linux machines on which the cluster can create nodes.",
    ),
    "systemd": LazyCommand("openvcha.cli.commands.systemd:app", "Run nodes as systemd units."),
    "node": LazyCommand("openvcha.cli.node.commands:app", "One node of the cluster."),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS, ErrorReportingGroup),
    name="vcha",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(help="An open vCenter High Availability cluster.")
def vcha() -> None:
    """Do nothing: the commands below it do the work."""


def main() -> None:
    """Run the command line."""
    log_to_stderr()
    app(prog_name="vcha")
