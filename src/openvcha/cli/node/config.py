"""`vcha config`: the settings of this machine's node."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from openvcha.cli.exit_codes import EPILOG, Code
from openvcha.cli.options import AsJson
from openvcha.cli.output.plain import say, say_json
from openvcha.client.errors import CommandError
from openvcha.node.settings.pages import as_toml, commented_file
from openvcha.node.settings.reading import DEFAULT_FILE, Reading, Unreadable, read_settings
from openvcha.node.settings.table import SETTINGS

app = typer.Typer(
    help="The settings with which `vcha init` creates a node.", epilog=EPILOG, no_args_is_help=True
)

Config = Annotated[
    Path | None,
    typer.Option("--config", dir_okay=False, help=f"The file; default: {DEFAULT_FILE}."),
]


@app.command(epilog=EPILOG)
def check(config: Config = None) -> None:
    """Check the file, and report all unknown keys, wrong values and contradictions at once."""
    path = config or DEFAULT_FILE
    found = read(path, given=True)
    refuse(found)
    say(f"{path}: {len(found.sources)} settings, no errors")


@app.command(epilog=EPILOG)
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Show each setting's value, and whether the file sets it."""
    found = read(config or DEFAULT_FILE, given=config is not None)
    if as_json:
        shown = {
            key: {
                "value": found.values[key],
                "default": setting.default,
                "unit": setting.unit or None,
                "source": found.sources.get(key),
            }
            for key, setting in SETTINGS.items()
        }
        say_json({"settings": shown, "errors": found.errors}, indent=2)
    else:
        for key, setting in SETTINGS.items():
            unit = f" {setting.unit}" if setting.unit else ""
            source = found.sources.get(key, "default")
            say(f"{key} = {as_toml(found.values[key])}{unit} ({source})")
    refuse(found, quiet=as_json)


@app.command(epilog=EPILOG)
def default() -> None:
    """Print a settings file with every setting explained: its unit, default and limits."""
    for line in commented_file().splitlines():
        say(line)


def read(path: Path, *, given: bool, over: Mapping[str, str] | None = None) -> Reading:
    """Return the settings of a file; without one that is ``given``, the defaults.

    ``over`` are texts by key that override them. Raises CommandError if it cannot be read.
    """
    try:
        return read_settings(path if given or path.exists() else None, over)
    except (Unreadable, PermissionError) as error:
        raise CommandError(str(error)) from error


def refuse(found: Reading, *, quiet: bool = False) -> None:
    """Print all errors of settings and exit, if there are any."""
    if not found.errors:
        return
    for text in () if quiet else found.errors:
        say(f"vcha: {text}", err=True)
    raise typer.Exit(Code.FAILED)
