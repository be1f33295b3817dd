"""Stopping PostgreSQL on an isolated active that would acknowledge commits alone.

Patroni demotes it after it has tried every member of the store in turn: with the default leader_ttl
that takes 9 to 19 s, with a longer one more, and if Patroni hangs it never happens. While commits
wait for a standby, nothing is acknowledged in that time. But if the passive was out of sync before,
commits wait for no standby.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.postgres.server import commits_wait, is_standby
from openvcha.node.process.logs import Logger
from openvcha.node.process.process_tree import StillAlive, is_postgres, kill_tree

ISOLATED_SECONDS = 4.0
"""An election in etcd takes 1 to 2 s, rarely a second round: that is not isolation."""
VOTERS = 3


@dataclass(frozen=True)
class QuorumState:
    """A node's contact with the quorum.

    ``voters`` and ``paused`` (None if never known) are as last read from the store: a hung Patroni
    does not notice a change of mode, and the other nodes act on the store. ``lacks_quorum``: the
    node's own member reports that it has no quorum; a member that does not respond reports nothing.
    """

    voters: int
    paused: bool | None
    lacks_quorum: bool
    silent_seconds: float


def must_stop_postgres(at: QuorumState) -> bool:
    """Return whether PostgreSQL must be stopped: only if Patroni would stop it as well.

    During a pause (MAINTENANCE, DISABLED) no other node may lead, so the active continues. With
    fewer than three voters the cluster is being deployed or undeployed, or is a single node: then
    a restarting member breaks the quorum for a moment, and no other node may lead either.
    """
    cut_off = at.lacks_quorum and at.silent_seconds >= ISOLATED_SECONDS
    return cut_off and at.paused is False and at.voters >= VOTERS


class IsolationGuard:
    """A guard that kills PostgreSQL once each time the quorum is lost."""

    def __init__(self, layout: Layout, events: Logger) -> None:
        self._layout = layout
        self._events = events
        self._ended = False
        self.failure: str | None = None
        """Why the last ``enforce`` failed; the next one tries again."""

    async def enforce(self, at: QuorumState) -> bool:
        """Act on the state of the quorum, and return whether PostgreSQL was killed.

        Patroni does not promote it again without quorum. It may repair the data directory and start
        it as a standby, which is fine.
        """
        before, self.failure = self.failure, None
        try:
            return await self._enforce(at)
        except (OSError, StillAlive) as error:
            self.failure = f"cut off, and may not have stopped PostgreSQL: {error}"
        if self.failure != before:
            self._events.warning(self.failure)
        return False

    async def _enforce(self, at: QuorumState) -> bool:
        if not at.silent_seconds:
            self._ended = False
        if self._ended or not must_stop_postgres(at):
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
    """Return whether commits wait for no standby. Raises OSError."""
    try:
        return not (is_standby(pgdata) or commits_wait(pgdata))
    except FileNotFoundError:
        if (pgdata / "postmaster.pid").exists():
            raise
        return False  # the data are set aside, or do not exist yet: no PostgreSQL uses them
