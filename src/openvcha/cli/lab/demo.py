"""`vcha demo`: a redeploy under load, run and explained."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from openvcha.cli.accounts import new_lab_as_owner
from openvcha.cli.exit_codes import Code
from openvcha.cli.options import Base, Name, command
from openvcha.cli.output.console import console, narrator, simple_table
from openvcha.cli.output.errors import fail
from openvcha.client.narrator import Narrator
from openvcha.lab import power
from openvcha.lab.demo import DemoResult, run_demo
from openvcha.lab.folders import DEFAULT_NAME
from openvcha.lab.state import Lab
from openvcha.lab.up import up

MEGABYTE = 1_000_000
REPAIR = ("redeploy", "healthy")


def demo(
    data: Annotated[
        int, typer.Option(min=0, help="Megabytes of data for the new passive to copy.")
    ] = 100,
    keep: Annotated[bool, typer.Option(help="Keep the lab afterwards.")] = True,
    name: Name = DEFAULT_NAME,
    base: Base = None,
) -> None:
    """Destroy the passive under load, redeploy it, and check that no acknowledged row is lost.

    Brings a lab up if there is none. Exit code 1 when an acknowledged row is missing.
    """
    lab = new_lab_as_owner(name, base)
    environment = f'eval "$({command("lab env", name, base)})"'
    report = asyncio.run(_demo(lab, narrator(), data * MEGABYTE, environment, keep=keep))
    out = console()
    _show(out, report)
    if report.missing:
        numbers = ", ".join(map(str, sorted(report.missing)[:10]))
        raise fail(f"{len(report.missing)} acknowledged rows are missing: {numbers} …", Code.FAILED)
    if keep:
        out.print()
        out.print(f"The lab is still running: {command('lab status', name, base)}", soft_wrap=True)


async def _demo(
    lab: Lab, out: Narrator, filling: int, environment: str, *, keep: bool
) -> DemoResult:
    await up(lab, out)
    out.say()
    report = await run_demo(lab, out, filling, environment)
    if not keep and not report.missing:
        await power.reset(lab, out)
    return report


def _times(report: DemoResult) -> Table:
    table = simple_table("step", "seconds")
    for name, seconds in report.steps:
        table.add_row(name, f"{seconds:.1f}")
    return table


def _show(out: Console, report: DemoResult) -> None:
    ledger = report.ledger
    if not out.is_terminal:  # on a terminal, each step already shows its time
        out.print(_times(report))
    gone = sum(seconds for name, seconds in report.steps if name in REPAIR)
    out.print()
    out.print(f"The cluster had no passive for {gone:.1f} s, from the call until HEALTHY.")
    out.print(
        f"The writer waited at most {ledger.longest_pause:.1f} s for a response."
        f" {len(ledger.acknowledged)} rows were acknowledged; {len(ledger.unknown)} more"
        " have an unknown outcome.",
    )
    if not report.missing:
        out.print("Every acknowledged row is there.", style="bold green")
