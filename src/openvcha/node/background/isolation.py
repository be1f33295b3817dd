"""Ends PostgreSQL of an active that is cut off and would acknowledge alone.

Patroni steps down when it has tried every member of the store in turn, which takes 9 to 19 s, or
never if it hangs. Where commits wait for a standby nothing is acknowledged meanwhile. But where
the passive was out of sync before they wait for nobody.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.postgres.server import commits_wait, is_standby
from openvcha.node.process.logs import Logger
from openvcha.node.process.process_tree import is_postgres, kill_tree

CUT_OFF_SECONDS = 4.0
"""An election in the store takes 1 to 2 s, seldom a second round: that is not being cut off."""
VOTERS = 3


@dataclass(frozen=True)
class Standing:
    """How a node stands with the majority.

    ``voters`` and ``paused`` (None when it was never known) are as the store told last: a Patroni
    that hangs does not notice a mode, and the others act by the store. ``denied``: the own member
    of the store says itself, now, that it has no majority; one that does not answer has said
    nothing.
    """

    voters: int
    paused: bool | None
    denied: bool
    silent_seconds: float


def must_end(at: Standing) -> bool:
    """Return whether PostgreSQL may not go on alone: only where Patroni would end it as well.

    Under a pause (MAINTENANCE, DISABLED) nobody else may lead, so the active goes on. With fewer
    than three voters the cluster is being made, or given up, or is a single node: there one
    member that starts anew is no majority for a moment, and nobody else may lead either.
    """
    cut_off = at.denied and at.silent_seconds >= CUT_OFF_SECONDS
    return cut_off and at.paused is False and at.voters >= VOTERS


class CutOff:
    """Ends PostgreSQL once each time that the majority is lost."""

    def __init__(self, layout: Layout, events: Logger) -> None:
        self._layout = layout
        self._events = events
        self._ended = False

    async def heed(self, at: Standing) -> bool:
        """Act on how the node stands, and return whether PostgreSQL was ended.

        Patroni does not make it a primary again without a majority. It may mend the data and
        start them as a standby's: that is left to it. Raises StillAlive.
        """
        if not at.silent_seconds:
            self._ended = False
        if self._ended or not must_end(at):
            return False
        if not _acknowledges_alone(self._layout.pgdata):
            return False
        self._events.warning("cut off; stopping PostgreSQL", silent_seconds=at.silent_seconds)
        await asyncio.to_thread(
            kill_tree, self._layout.root, which=lambda process: is_postgres(process.argv)
        )
        self._ended = True
        return True


def _acknowledges_alone(pgdata: Path) -> bool:
    """Return whether commits there wait for no standby. Raises OSError."""
    try:
        return not (is_standby(pgdata) or commits_wait(pgdata))
    except FileNotFoundError:
        if (pgdata / "postmaster.pid").exists():
            raise
        return False  # the data are set aside, or not there yet: no PostgreSQL runs on them
