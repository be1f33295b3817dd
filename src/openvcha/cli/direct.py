"""Commands that other programs start, without the command line framework.

typer and pydantic take a quarter of a second of each start, and 10 MB of a node's memory.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from openvcha.cli.exit_codes import Code
from openvcha.cli.output.logs import log_to_stderr


def is_direct(arguments: Sequence[str]) -> bool:
    """Return whether the arguments are exactly `node run DIRECTORY`, or `bootstrap` for `run`."""
    match arguments:
        case ["node", "run" | "bootstrap", directory]:
            return not directory.startswith("-") and Path(directory).is_dir()
    return False


def run(verb: str, directory: Path) -> None:
    """Do as `vcha node run` or `bootstrap` does. Raises SystemExit if the node cannot run."""
    from openvcha.cli.running import (  # noqa: PLC0415 - for this command only
        NodeCannotRun,
        bootstrap_node,
        run_node,
    )

    log_to_stderr(tracebacks=True)
    try:
        (bootstrap_node if verb == "bootstrap" else run_node)(directory)
    except NodeCannotRun as error:
        from openvcha.cli.output.plain import say  # noqa: PLC0415 - it imports typer

        say(f"vcha: {error}", err=True)
        sys.exit(Code.FAILED)
