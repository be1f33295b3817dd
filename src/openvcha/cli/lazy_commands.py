"""Commands whose modules are imported on demand, so that a node loads only what it needs."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from openvcha.cli.exit_codes import EPILOG


@dataclass(frozen=True)
class LazyCommand:
    """A command: ``target`` is the `module:name` of a function or a Typer app.

    ``help`` is the first line of its help, for the list of commands.
    """

    target: str
    help: str
    hidden: bool = False

    def listed(self, name: str) -> TyperCommand:
        """Return a placeholder for a list of commands."""
        return TyperCommand(name, help=self.help, hidden=self.hidden)

    def command(self, name: str) -> Any:
        """Import the target and return the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = name
            return group
        app = typer.Typer(add_completion=False)
        app.command(name, hidden=self.hidden, epilog=EPILOG)(found)
        return typer.main.get_command(app)


def lazy_group(
    table: Mapping[str, LazyCommand], base: type[TyperGroup] = TyperGroup
) -> type[TyperGroup]:
    """Return the class of a group that has the table's commands besides its own.

    Listing them imports none of them: importing all takes a second.
    """

    class Lazy(base):  # type: ignore[misc, valid-type]  # the base is chosen by the caller
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            # The names are needed for listing and for suggesting corrections.
            for name in table:
                self.commands.setdefault(name, None)
            self._lists = False

        def format_help(self, ctx: Any, formatter: Any) -> None:
            self._lists = True
            try:
                super().format_help(ctx, formatter)
            finally:
                self._lists = False

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            known = self.commands.get(cmd_name) is not None or cmd_name not in table
            if self._lists and not known:
                return table[cmd_name].listed(cmd_name)
            if not known:
                self.commands[cmd_name] = table[cmd_name].command(cmd_name)
            return super().get_command(ctx, cmd_name)

    return Lazy
