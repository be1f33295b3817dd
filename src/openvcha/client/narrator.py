"""How long work tells what it does, whoever listens: a terminal, a log, a test."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Narrator(Protocol):
    """Hears of steps, of the progress of a task, and of what is worth knowing."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Do something during the block; steps are not nested."""
        ...

    def task(self, info: Mapping[str, Any]) -> None:
        """Learn how far the task of the running step is: its info, as REST gives it."""
        ...

    def say(self, text: str = "") -> None:
        """Tell one sentence or more."""
        ...

    def code(self, text: str) -> None:
        """Show a command as one could type it."""
        ...
