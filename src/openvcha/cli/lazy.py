"""Commands whose modules are loaded when they are asked for: a node starts only what it needs."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from openvcha.cli.exits import EPILOG


@dataclass(frozen=True)
class Load:
    """Where a command is: ``target`` is `module:name` of a function or of a Typer app."""

    target: str
    hidden: bool = False

    def command(self, name: str) -> Any:
        """Import it and make the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = name
            return group
        app = typer.Typer(add_completion=False)
        app.command(name, hidden=self.hidden, epilog=EPILOG)(found)
        return typer.main.get_command(app)


def lazy(table: Mapping[str, Load], base: type[TyperGroup] = TyperGroup) -> type[TyperGroup]:
    """Make the class of a group which has the commands of the table besides its own."""

    class Lazy(base):  # type: ignore[misc, valid-type]  # the base is chosen by the caller
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            # The names must be there for listing and for guessing at typing errors.
            for name in table:
                self.commands.setdefault(name, None)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if self.commands.get(cmd_name) is None and cmd_name in table:
                self.commands[cmd_name] = table[cmd_name].command(cmd_name)
            return super().get_command(ctx, cmd_name)

    return Lazy
