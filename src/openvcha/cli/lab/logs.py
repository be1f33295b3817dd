"""`vcha lab logs`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from openvcha.cli.accounts import readable_lab
from openvcha.cli.exit_codes import Code
from openvcha.cli.options import Base, Name
from openvcha.cli.output.console import console
from openvcha.cli.output.errors import fail
from openvcha.cli.output.plain import say_exactly
from openvcha.lab import logs as reading
from openvcha.lab.access import lab_inventory
from openvcha.lab.folders import DEFAULT_NAME
from openvcha.lab.logs import Line
from openvcha.lab.roles import ROLES, Roles, find_roles, select
from openvcha.lab.state import Lab
from openvcha.node.layout import Layout

LINES = 40
_STYLES = {"warning": "yellow", "warn": "yellow", "error": "red", "fatal": "red", "critical": "red"}


def logs(
    node: Annotated[str, typer.Argument(help="A node's name, or active, passive, witness.")],
    *,
    part: Annotated[
        str | None, typer.Option(help="Only this part: etcd, patroni, postgresql, service …")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many lines to start with.")
    ] = LINES,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the lines as they are in the files.")
    ] = False,
    name: Name = DEFAULT_NAME,
    base: Base = None,
) -> None:
    """Show a node's logs, all its parts merged."""
    folder = asyncio.run(_folder(readable_lab(name, base), node))
    known = reading.parts(folder)
    if part is not None and part not in known:
        raise fail(f"{node} has no logs of {part!r}; it has: {', '.join(known)}", Code.USAGE)
    out = console()
    for line in reading.last_lines(folder, part, lines):
        _print(out, line, raw)
    if follow:
        asyncio.run(_follow(out, folder, part, raw))


async def _folder(lab: Lab, node: str) -> Path:
    inventory = await lab_inventory(lab)
    known = await find_roles(inventory) if node in ROLES else Roles({})
    return Layout(Path(select(lab, inventory, known, node).directory)).logs


async def _follow(out: Console, folder: Path, part: str | None, raw: bool) -> None:
    async for line in reading.follow(folder, part):
        _print(out, line, raw)


def _print(out: Console, line: Line, raw: bool) -> None:
    if raw:
        say_exactly(line.raw)
        return
    clock = line.time.strftime("%H:%M:%S.%f")[:-3]
    style = _STYLES.get(line.level, "")
    text = Text.assemble((clock, "dim"), f" {line.part:<10} ", (line.text, style))
    out.print(text, soft_wrap=True)
