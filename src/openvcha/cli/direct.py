"""Commands that other programs start, without the command line framework.

typer and pydantic take a quarter of a second of each start, and 10 MB of a node's memory.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from openvcha.cli.exit_codes import Code
from openvcha.cli.output.logs import log_to_stderr


def is_node_run(arguments: Sequence[str]) -> bool:
    """Return whether the arguments are exactly `node run DIRECTORY`."""
    match arguments:
        case ["node", "run", directory]:
            return not directory.startswith("-") and Path(directory).is_dir()
    return False


def run(directory: Path) -> None:
    """Run a node as `vcha node run` does. Raises SystemExit if it cannot run."""
    from openvcha.cli.running import NodeCannotRun, run_node  # noqa: PLC0415 - for this command only

    log_to_stderr(tracebacks=True)
    try:
        run_node(directory)
    except NodeCannotRun as error:
        from openvcha.cli.output.plain import say  # noqa: PLC0415 - it imports typer

        say(f"vcha: {error}", err=True)
        sys.exit(Code.FAILED)
