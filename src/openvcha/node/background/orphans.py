"""The removal of backends whose postmaster has died.

A backend notices the death of its postmaster only when it waits for something. If it computes, it
continues until its query ends, and while it holds the shared memory no PostgreSQL starts on the
data ("pre-existing shared memory block ... is still in use"), neither as a primary nor for a
rewind. Killing it loses nothing: the next start recovers all commits, as after a crash.
"""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from openvcha.node.background.context import NodeContext
from openvcha.node.layout import Layout
from openvcha.node.process.logs import Logger
from openvcha.node.process.process_tree import (
    Process,
    is_alive,
    is_postgres,
    orphaned,
    read_process,
    read_table,
    send,
    working_in,
)
from openvcha.system.repeating import repeat

POLL_SECONDS = 0.5
"""Also the time for backends to notice by themselves and tell their clients."""


async def end_orphans(context: NodeContext) -> None:
    """Watch until canceled; return at once on a witness."""
    if not context.identity.holds_data:
        await asyncio.Event().wait()
    await OrphanReaper(context.layout, context.events).run()


class OrphanReaper:
    """A job that kills backends without their postmaster, once two searches in a row found them."""

    def __init__(
        self,
        layout: Layout,
        events: Logger,
        *,
        find: Callable[[Path], list[Process]] | None = None,
        postmaster: Callable[[Path], Process | None] | None = None,
        end: Callable[[Process], object] = lambda process: send(process, signal.SIGKILL),
    ) -> None:
        self._pgdata = layout.pgdata
        self._events = events
        self._find = find or orphaned_processes
        self._find_postmaster = postmaster or living_postmaster
        self._postmaster: Process | None = None
        self._end = end
        self._seen: frozenset[Process] = frozenset()

    async def run(self) -> None:
        """Check periodically until canceled."""
        await repeat(self.run_once, POLL_SECONDS)

    async def run_once(self) -> None:
        """Kill the processes that the last search found too; skip those that have exited since."""
        if self._postmaster is not None and is_alive(self._postmaster):
            # A live postmaster has no orphans. The kernel responds at once; the data disk may not.
            self._seen = frozenset()
            return
        found, self._postmaster = await asyncio.to_thread(self._look_at_data)
        known = {(process.pid, process.started) for process in self._seen}
        self._seen = frozenset(found)
        lasting = [process for process in found if (process.pid, process.started) in known]
        if not lasting:
            return
        titles = [process.argv[0] for process in lasting]
        self._events.warning("ending backends that outlived their postmaster", titles=titles)
        for process in lasting:
            self._end(process)

    def _look_at_data(self) -> tuple[list[Process], Process | None]:
        return self._find(self._pgdata), self._find_postmaster(self._pgdata)


def orphaned_processes(pgdata: Path) -> list[Process]:
    """Return the processes of a dead PostgreSQL on this data directory; none while one runs."""
    return orphaned(read_table(), working_in(pgdata)) if postmaster_died(pgdata) else []


def postmaster_died(pgdata: Path) -> bool:
    """Return whether `postmaster.pid` exists but names no PostgreSQL of this data directory."""
    return _named_id(pgdata) is not None and living_postmaster(pgdata) is None


def living_postmaster(pgdata: Path) -> Process | None:
    """Return the PostgreSQL of this data directory that `postmaster.pid` names, if it runs."""
    number = _named_id(pgdata)
    named = None if number is None else read_process(number)
    # The pid may be another PostgreSQL's by now; each works in its own data directory.
    ours = named is not None and is_postgres(named.argv) and working_in(pgdata)(named.pid)
    return named if ours else None


def _named_id(pgdata: Path) -> int | None:
    """Return the pid in `postmaster.pid`; None after a clean shutdown or during a start."""
    try:
        first, *_ = (pgdata / "postmaster.pid").read_text().splitlines()
        return abs(int(first))  # negative for a single-user PostgreSQL
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
