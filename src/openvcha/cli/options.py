"""Options that many commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from openvcha.lab.folders import DEFAULT_NAME, VARIABLE, lab_options
from openvcha.lab.state import Lab

PROGRAM = "OPENVCHA_COMMAND"

Name = Annotated[str, typer.Option("--name", help="The lab's name.", rich_help_panel="Which lab")]
Base = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        envvar=VARIABLE,
        file_okay=False,
        help=(
            "The folder of all labs; default: $XDG_STATE_HOME/openvcha or ~/.local/state/openvcha."
        ),
        rich_help_panel="Which lab",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command(words: str, name: str = DEFAULT_NAME, base: Path | None = None) -> str:
    """Return one of our commands as a user would type it here, for the same lab."""
    named = f" --name {name}" if name != DEFAULT_NAME else ""
    return f"{program()} {words}{lab_options(Lab(base / name)) if base else named}"


def program() -> str:
    """Return what a user types for `vcha` here; `./dev` sets it."""
    return os.environ.get(PROGRAM) or "vcha"
