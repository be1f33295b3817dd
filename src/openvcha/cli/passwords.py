"""Passwords from a prompt, a file or standard input; never from the command line."""

import sys
from pathlib import Path

from openvcha.api.secret import Secret
from openvcha.cli import saying
from openvcha.lab.errors import LabFailed

STDIN = Path("-")


def read_password(file: Path | None, prompt: str, *, new: bool = False) -> Secret:
    """Read a password: from the file (`-`: standard input), else from whoever sits there.

    Raises LabFailed when there is none.
    """
    if file is not None and file != STDIN:
        return _first_line(file.read_text(), str(file))
    if file == STDIN or not sys.stdin.isatty():
        return _first_line(sys.stdin.read(), "standard input")
    return Secret(saying.prompt(prompt, hidden=True, twice=new))


def _first_line(text: str, source: str) -> Secret:
    found = text.partition("\n")[0].removesuffix("\r")
    if not found:
        raise LabFailed(f"there is no password in {source}")
    return Secret(found)
