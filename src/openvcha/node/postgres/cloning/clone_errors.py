"""The server's error for a failed copy: the client only sees that the connection ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from openvcha.node.postgres.cloning.base_backup import COPY_APPLICATION
from openvcha.node.postgres.log import SEVERE, Entry

TRANSIENT_STATES = ("08", "40", "53300", "53400", "55", "57")
"""SQLSTATEs, or classes of them, that may pass: a lost connection, too many connections, an object
in use, a server that is stopping."""


@dataclass(frozen=True)
class ServerError:
    """The server's error. A ``final`` one recurs with every attempt."""

    state: str
    message: str

    @property
    def final(self) -> bool:
        """Return whether a retry cannot help."""
        return not self.state.startswith(TRANSIENT_STATES)


def copy_error(log: Iterable[Entry], since: datetime) -> ServerError | None:
    """Return the last error of a copy's sessions since a time, if any."""
    found = [
        each
        for each in log
        if each.application == COPY_APPLICATION and each.severity in SEVERE and each.time >= since
    ]
    return ServerError(found[-1].state, found[-1].message) if found else None
