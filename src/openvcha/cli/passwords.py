"""Passwords from a prompt, a file or standard input; never from the command line."""

import sys
from pathlib import Path
from typing import TextIO

from openvcha.api.secret import Secret
from openvcha.cli.output import plain
from openvcha.client.errors import CommandError

STDIN = Path("-")
MAX_BYTES = 1 << 16


def read_password(
    file: Path | None, prompt: str, *, new: bool = False, what: str = "password"
) -> Secret:
    """Read a password from the file (`-`: standard input), otherwise from a prompt.

    ``what`` names it in an error. Raises CommandError if there is none.
    """
    if file is not None and file != STDIN:
        with file.open(encoding="utf-8") as stream:
            return _first_line(stream, str(file), what)
    if file == STDIN or not sys.stdin.isatty():
        return _first_line(sys.stdin, "standard input", what)
    return Secret(plain.prompt(prompt, hidden=True, twice=new))


def _first_line(stream: TextIO, source: str, what: str) -> Secret:
    try:
        line = stream.readline(MAX_BYTES + 1)
    except UnicodeDecodeError:  # its text would quote the bytes of the password
        raise CommandError(f"{source} is not text and cannot contain a {what}") from None
    found = line.removesuffix("\n").removesuffix("\r")
    if not found:
        raise CommandError(f"there is no {what} in {source}")
    if len(line) > MAX_BYTES:
        raise CommandError(f"the first line of {source} is too long for a {what}")
    return Secret(found)
