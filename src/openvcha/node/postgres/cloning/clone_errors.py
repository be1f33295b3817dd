"""What the server said of a copy that failed: the one that copies hears only that it ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from openvcha.node.postgres.cloning.base_backup import COPY_APPLICATION
from openvcha.node.postgres.log import SEVERE, Entry

PASSING = ("08", "40", "53300", "53400", "55", "57")
"""SQLSTATEs, or their classes, that may pass: a lost connection, all places taken, an object in
use, a server that stops or was told to."""


@dataclass(frozen=True)
class ServerError:
    """The server's own error. One that is ``final`` comes again with each copy."""

    state: str
    message: str

    @property
    def final(self) -> bool:
        """Return whether trying again is of no use."""
        return not self.state.startswith(PASSING)


def copy_error(log: Iterable[Entry], since: datetime) -> ServerError | None:
    """Return the last error of a copy's sessions since then."""
    found = [
        each
        for each in log
        if each.application == COPY_APPLICATION and each.severity in SEVERE and each.time >= since
    ]
    return ServerError(found[-1].state, found[-1].message) if found else None
