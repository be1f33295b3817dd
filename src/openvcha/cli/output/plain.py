"""Lines for a terminal or a pipe. Whatever others wrote of them moves no cursor and forges no line.

All that `vcha` prints goes through here or through ``screen``: nothing else calls ``typer.echo``.
"""

import sys
from typing import Any

import msgspec
import typer

from openvcha.api.printable import printable, printable_json


def say(text: str = "", *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(printable(text), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text whose lines belong together: those after the first are indented."""
    typer.echo("\n    ".join(map(printable, text.split("\n"))), err=err)


def say_json(value: Any, *, indent: int = 0) -> None:
    """Print a value as JSON, on one line or indented."""
    data = msgspec.json.encode(value)
    if indent:
        data = msgspec.json.format(data, indent=indent)
    typer.echo(printable_json(data.decode()))


def say_exactly(text: str) -> None:
    """Print what a program is to read as it is; on a terminal it is a line like others."""
    typer.echo(printable(text) if sys.stdout.isatty() else text)


def confirm(question: str) -> bool:
    """Ask for a yes."""
    return typer.confirm(printable(question))


def prompt(question: str, *, hidden: bool = False, twice: bool = False) -> str:
    """Ask for a text."""
    answer: str = typer.prompt(printable(question), hide_input=hidden, confirmation_prompt=twice)
    return answer
