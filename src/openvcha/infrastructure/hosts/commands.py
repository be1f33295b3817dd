"""Commands for the shell of a host, built of arguments: pure.

SSH passes one text, which the account's shell there splits again. So each argument is quoted, and
a text that no shell takes as it is is refused.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class UnusableArgument(ValueError):  # noqa: N818 - named after the condition
    """An argument that cannot be passed to a program."""


@dataclass(frozen=True)
class Outcome:
    """The end of a command: its exit code (negative for a signal), output and errors."""

    code: int
    output: str
    errors: str


class Runner(Protocol):
    """A function that runs a command of one host."""

    async def __call__(
        self, command: str, *, stdin: bytes = b"", seconds: float | None = None
    ) -> Outcome:
        """Run a shell command. Raises HostUnreachable: then it may have run, or not."""
        ...


class HostUnreachable(Exception):  # noqa: N818 - named after the condition
    """A host gives no answer, so nothing is known of it; the text says why."""


class AccessDenied(HostUnreachable):
    """A host answers, but does not let us in."""


class HostKeyChanged(HostUnreachable):
    """What answers at a host's address has another host key: it may be another machine."""


def quoted(*arguments: str) -> str:
    """Return a command for a shell. Raises UnusableArgument."""
    for argument in arguments:
        if "\0" in argument:
            raise UnusableArgument(f"{argument!r} contains a NUL byte")
    return shlex.join(arguments)


def as_root(*arguments: str) -> tuple[str, ...]:
    """Return a command that sudo runs as root without asking for a password."""
    return ("sudo", "-n", *arguments)


def script(text: str, *arguments: str, root: bool = False) -> str:
    """Return a command that runs a POSIX shell script with arguments."""
    shell = ("sh", "-c", text, "sh", *arguments)
    return quoted(*(as_root(*shell) if root else shell))


def last_words(outcome: Outcome, most: int = 500) -> str:
    """Return the end of what a failed command said, on one line."""
    said: Sequence[str] = (outcome.errors or outcome.output).split()
    return " ".join(said)[-most:] or f"exit code {outcome.code}, no output"
