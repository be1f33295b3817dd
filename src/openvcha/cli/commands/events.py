"""`vcha events` and `vcha audit`."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from openvcha.cli.options import AsJson
from openvcha.cli.output.console import console, local_time, simple_table
from openvcha.cli.output.plain import say, say_json
from openvcha.cli.target import Target, with_target
from openvcha.client.rest_client import ApiClient

Info = dict[str, Any]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Keep showing new events, until Ctrl-C.")
]
Limit = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="How many to show, counted from the newest.")
]
NEWEST = 50
_STYLES = {"WARNING": "yellow", "ERROR": "bold red"}


@with_target
def events(
    *, target: Target, follow: Follow = False, limit: Limit = NEWEST, as_json: AsJson = False
) -> None:
    """Show the cluster's events, newest last."""

    async def work() -> None:
        async with target.api() as api:
            found = await api.call("GET", "/openvcha/events", query=[("limit", str(limit))])
            _print_events(found, as_json=as_json)
            if follow:
                await _follow(api, found[-1]["id"] if found else "0", as_json=as_json)
            elif not found and not as_json:
                say("no events yet")

    asyncio.run(work())


@with_target
def audit(*, target: Target, limit: Limit = NEWEST, as_json: AsJson = False) -> None:
    """Show who changed what, newest last."""

    async def work() -> list[Info]:
        async with target.api() as api:
            found: list[Info] = await api.call(
                "GET", "/openvcha/audit", query=[("limit", str(limit))]
            )
            return found

    found = asyncio.run(work())
    if as_json:
        _print_lines(found)
        return
    table = simple_table("time", "user", "from", "operation", "result", "task", "arguments")
    for record in found:
        table.add_row(*_audit_row(record))
    console().print(table if found else "no calls yet")


async def _follow(api: ApiClient, after: str, *, as_json: bool) -> None:
    async for event in api.events(after):
        _print_events([event], as_json=as_json)


def _print_events(found: Iterable[Info], *, as_json: bool) -> None:
    if as_json:
        _print_lines(found)
        return
    out = console()
    for event in found:
        _print_event(out, event)


def _print_event(out: Console, event: Info) -> None:
    severity = event["severity"]
    line = Text.assemble(
        (local_time(event["time"]), "dim"),
        "  ",
        (f"{severity:8}", _STYLES.get(severity, "")),
        event["message"]["default_message"],
        (f"  {event['type']}", "dim"),
    )
    out.print(line, soft_wrap=True)


def _print_lines(found: Iterable[Info]) -> None:
    """Print records as JSON, one on each line, as they arrive."""
    for one in found:
        say_json(one)


def _audit_row(record: Info) -> tuple[str, ...]:
    reason = record.get("reason") or {}
    result = record["result"]
    return (
        local_time(record["time"]),
        record.get("user") or "-",
        record["origin"],
        record["operation"].removeprefix("com.vmware.vcenter.vcha.").removeprefix("com.vmware."),
        f"{result}: {reason['default_message']}" if reason else result,
        (record.get("task") or "-")[:8],
        record.get("arguments") or "-",
    )
