"""Exit codes, the same for all commands; scripts may rely on them."""

from enum import IntEnum


class Code(IntEnum):
    """The exit code of a command."""

    OK = 0
    FAILED = 1  # refused, failed, or not HEALTHY
    USAGE = 2  # raised by typer itself
    DOWN = 3  # the lab or the node is down or does not exist
    INTERRUPTED = 130


EPILOG = (
    "Exit codes: 0 done (status: HEALTHY), 1 refused, failed or not HEALTHY, 2 wrong usage,"
    " 3 the lab or node is down or does not exist, 130 interrupted."
)
