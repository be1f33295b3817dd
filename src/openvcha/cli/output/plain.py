"""Lines for a terminal or a pipe, without control characters.

All output of `vcha` goes through here or through ``console``: nothing else calls ``typer.echo``.
"""

import sys
import traceback
from typing import Any

import msgspec
import typer

from openvcha.api.foreign_text import printable, printable_json


def say(text: str = "", *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(printable(text), err=err)


def say_traceback(error: BaseException) -> None:
    """Print an error's traceback on stderr: what the error says is on one line."""
    for piece in traceback.format_exception(error):
        text = piece.rstrip("\n")
        # Only a frame's text is our own: a file of the program, and a line of its source.
        for line in text.split("\n") if text.startswith("  File ") else (text,):
            say(line, err=True)


def say_json(value: Any, *, indent: int = 0) -> None:
    """Print a value as JSON, on one line or indented."""
    data = msgspec.json.encode(value)
    if indent:
        data = msgspec.json.format(data, indent=indent)
    typer.echo(printable_json(data.decode()))


def say_exactly(text: str) -> None:
    """Print a text unchanged for a program; on a terminal, as a line like any other."""
    typer.echo(printable(text) if sys.stdout.isatty() else text)


def confirm(question: str) -> bool:
    """Prompt for a confirmation, and return whether it was given."""
    return typer.confirm(printable(question))


def prompt(
    question: str, *, hidden: bool = False, twice: bool = False, proposal: str | None = None
) -> str:
    """Prompt for a text, and return it; an empty answer accepts the proposal."""
    answer: str = typer.prompt(
        printable(question), hide_input=hidden, confirmation_prompt=twice, default=proposal
    )
    return answer
