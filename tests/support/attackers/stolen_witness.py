"""The files that a thief of a witness has."""

import subprocess
from pathlib import Path


def started(argv: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a program, with its output in a log."""
    with log.open("wb") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
