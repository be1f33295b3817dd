"""`vcha`, the one command."""

import typer

from openvcha.cli.errors import Telling
from openvcha.cli.exits import EPILOG
from openvcha.cli.lazy import Load, lazy
from openvcha.cli.logs import log_to_people

COMMANDS = {
    "lab": Load("openvcha.cli.lab:app"),
    "demo": Load("openvcha.cli.demo:demo"),
    "failover": Load("openvcha.cli.failover:failover"),
    "passive": Load("openvcha.cli.replace:passive"),
    "witness": Load("openvcha.cli.replace:witness"),
    "mode": Load("openvcha.cli.mode:app"),
    "undeploy": Load("openvcha.cli.undeploy:undeploy"),
    "task": Load("openvcha.cli.task:app"),
    "events": Load("openvcha.cli.events:events"),
    "audit": Load("openvcha.cli.events:audit"),
    "call": Load("openvcha.cli.call:app"),
    "user": Load("openvcha.cli.user:app"),
    "openapi": Load("openvcha.cli.openapi:openapi"),
    "doctor": Load("openvcha.cli.node:doctor"),
    "node": Load("openvcha.cli.node:app"),
}

app = typer.Typer(
    cls=lazy(COMMANDS, Telling),
    name="vcha",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def vcha() -> None:
    """An open vCenter High Availability cluster."""


def main() -> None:
    """Run the command line."""
    log_to_people()
    app(prog_name="vcha")
