"""Progress reports of long operations, for a terminal, a log or a test."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Narrator(Protocol):
    """A receiver of an operation's steps, the progress of its tasks, and messages."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Show a step during a block; steps are not nested."""
        ...

    def task(self, info: Mapping[str, Any]) -> None:
        """Show the progress of the running step's task, given its info as in REST."""
        ...

    def say(self, text: str = "") -> None:
        """Show a message of one or more sentences."""
        ...

    def code(self, text: str) -> None:
        """Show a command as a user would type it."""
        ...
