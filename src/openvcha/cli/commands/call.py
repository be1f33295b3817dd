"""`vcha call`: any operation of the API, from the table of operations."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.padding import Padding
from typer.core import TyperCommand, TyperGroup

from openvcha.api.errors import STATUS
from openvcha.api.operations import OPERATIONS, Operation
from openvcha.api.types import descriptor
from openvcha.cli.arguments import RestCall, build
from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.operation_help import (
    Leaf,
    body_leaves,
    describe_type,
    find_operations,
    method_and_path,
    path_leaves,
    query_leaves,
    short_name,
)
from openvcha.cli.output.console import Rows, console, simple_table
from openvcha.cli.output.following import follow_task
from openvcha.cli.output.plain import say_json
from openvcha.cli.target import Target, with_target

Body = Annotated[
    str | None,
    typer.Argument(
        metavar="[JSON|@FILE|-]", help="The body: JSON, a file, or - for standard input."
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="One parameter; see below."),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show the task's progress until it ends.")
]


class Operations(TyperGroup):
    """The operations as commands, which are created on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all operations."""
        del ctx
        return [short_name(operation) for operation in OPERATIONS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return an operation by its id or the end of its id. Raises BadParameter if ambiguous."""
        del ctx
        found = find_operations(cmd_name)
        if len(found) > 1:
            names = ", ".join(short_name(operation) for operation in found)
            raise typer.BadParameter(f"{cmd_name!r} is ambiguous: {names}")
        return _command(found[0]) if found else None


app = typer.Typer(
    cls=Operations,
    epilog=f"`vcha call OPERATION --help` shows its parameters, privilege and errors. {EPILOG}",
    invoke_without_command=True,
    subcommand_metavar="OPERATION [ARGS]...",
)


@app.callback()
def call(
    ctx: typer.Context,
    listing: Annotated[bool, typer.Option("--list", help="List all operations.")] = False,
) -> None:
    """Call an operation of the API by its full name or its last parts, such as passive.redeploy."""
    if listing:
        console().print(_list())
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    else:
        return
    raise typer.Exit


def _list() -> Rows:
    table = simple_table("operation", "privilege", "what it does")
    for operation in OPERATIONS:
        later = "" if operation.available else " (not supported yet)"
        table.add_row(
            short_name(operation),
            operation.privilege or "-",
            operation.summary + later,
        )
    return table


def _command(operation: Operation) -> Any:
    """Return the command for one operation."""

    def plain(body: Body = None, *, param: Params = None, target: Target) -> None:
        asyncio.run(_call(target, build(operation, body, param or ()), follow=False))

    def task(
        body: Body = None, *, param: Params = None, follow: Follow = False, target: Target
    ) -> None:
        asyncio.run(_call(target, build(operation, body, param or ()), follow=follow))

    function: Callable[..., None] = task if operation.task else plain
    single = typer.Typer(add_completion=False)
    single.command(
        short_name(operation),
        cls=_documented(operation),
        help=operation.summary,
    )(with_target(function))
    return typer.main.get_command(single)


async def _call(target: Target, call: RestCall, *, follow: bool) -> None:
    async with target.api() as api:
        answer = await api.call(call.method, call.path, call.body, call.query)
        if answer is not None:
            say_json(answer, indent=2)
        if follow:
            await follow_task(api, answer)


def _documented(operation: Operation) -> type[TyperCommand]:
    class Documented(TyperCommand):
        """A command whose help ends with a description of the operation."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            _describe(operation)

    return Documented


def _describe(operation: Operation) -> None:
    out = console()
    out.print(f" {method_and_path(operation)}")
    for title, leaves in (
        ("In the path", path_leaves(operation)),
        ("In the query", query_leaves(operation)),
        ("In the body", body_leaves(operation)),
    ):
        if leaves:
            out.print()
            out.print(f" {title}, * required")
            out.print(Padding.indent(_leaf_table(leaves), 3))
    out.print()
    out.print(f" Privilege   {operation.privilege or 'none'}")
    out.print(f" Returns     {_answer(operation)}", soft_wrap=True)
    by_status = sorted((STATUS[error], error.value) for error in operation.errors)
    out.print(f" Errors      {', '.join(f'{name} ({status})' for status, name in by_status)}")
    if not operation.available:
        out.print(" Not supported yet: it returns UNSUPPORTED.")


def _leaf_table(leaves: Iterable[Leaf]) -> Rows:
    table = simple_table()
    table.show_header = False
    for _ in range(3):
        table.add_column()
    for leaf in leaves:
        table.add_row("*" if leaf.required else "", leaf.name, describe_type(leaf.type))
    return table


def _answer(operation: Operation) -> str:
    if operation.task:
        return f"{operation.status}, the id of a task"
    result = "" if operation.output is None else f", {describe_type(descriptor(operation.output))}"
    return f"{operation.status}{result}"
