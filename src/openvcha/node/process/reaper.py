"""The reaper, which stops a node's programs when its supervisor has died.

Without a supervisor they are neither restarted nor fenced. Left alone they would half work: Patroni
renews the leader key, so no other node takes over, while etcd exits at the first log line that it
cannot write. So the death of a supervisor ends the node. So does a hang: nothing reads the
programs' output, and each of them blocks forever once its pipe is full, etcd with a vote and
Patroni with the leader key. A hung supervisor is killed.

`supervisor_watch.py` waits for that, and then becomes this program. It ignores the signals that a
service manager sends to all remaining processes: PostgreSQL would take SIGTERM as a smart shutdown,
and wait for its clients.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.process.logs import RotatingLog, log_path, logger
from openvcha.node.process.process_tree import (
    PATRONI,
    Process,
    find_tree,
    is_alive,
    is_postgres,
    kill_tree,
    node_run,
    program,
    read_process,
    send,
)
from openvcha.node.process.supervisor_watch import HANGS

GRACEFUL_SECONDS = 8.0
"""Processes that have not ended by then are killed: the leader key expires after
20 s at the earliest (the default leader_ttl, and its minimum)."""
PAUSE_SECONDS = 0.2
SUPERVISORS = frozenset({("node", "run"), ("node", "bootstrap")})
"""A node that bootstraps becomes its supervisor, in the same process."""

ProcessSignal = tuple[Process, signal.Signals]


def main() -> None:
    """Stop the node of a directory whose supervisor (pid) has died or hangs."""
    directory, supervisor, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if how == HANGS and os.getppid() == supervisor:
        os.kill(supervisor, signal.SIGKILL)
    # In parallel: the supervisor may be waiting for the disk that also holds the logs.
    telling = threading.Thread(target=_tell, args=(directory, supervisor, how), daemon=True)
    telling.start()
    left = Reaper(directory, supervisor).end()
    telling.join()
    events = logger(_log(directory), "reaper")
    events.warning("the node ended", killed=[process.argv for process in left])


def _tell(directory: Path, supervisor: int, how: str) -> None:
    events = logger(_log(directory), "reaper")
    events.error(f"the supervisor {how}; ending the node", supervisor=supervisor)


def _log(directory: Path) -> RotatingLog:
    return RotatingLog(log_path(Layout(directory).logs, "reaper"), max_bytes=sys.maxsize)


def signals_for(processes: Iterable[Process]) -> Iterator[ProcessSignal]:
    """Yield the signal for each process of a node without a supervisor.

    Patroni stops its PostgreSQL and releases the leader key. For that it needs the store, so etcd
    is signaled when both have exited. A PostgreSQL without Patroni gets a fast shutdown.
    """
    tree = [process for process in processes if not is_supervisor(process)]
    patroni = any(PATRONI in process.argv for process in tree)
    engines = patroni or any(is_postgres(process.argv) for process in tree)
    for process in tree:
        if program(process.argv) == "etcd":
            if not engines:
                yield process, signal.SIGTERM
        elif _is_postmaster(process):
            if not patroni:
                yield process, signal.SIGINT
        elif not process.argv or not process.argv[0].startswith("postgres: "):
            yield process, signal.SIGTERM


def is_supervisor(process: Process) -> bool:
    """Return whether it is a supervisor: only the next one, which cleans up by itself."""
    words = set(pairwise(process.argv))
    return node_run(process.argv) is not None and not SUPERVISORS.isdisjoint(words)


class Reaper:
    """The shutdown of a dead supervisor's programs, in order; it stops for a new supervisor.

    A process never gets the same signal twice: PostgreSQL would interpret the second differently.
    """

    def __init__(
        self,
        directory: Path,
        supervisor: int,
        *,
        find: Callable[[Path], list[Process]] = find_tree,
        tell: Callable[[Process, signal.Signals], object] = send,
        kill: Callable[..., None] = kill_tree,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory
        self._supervisor = supervisor
        self._find = find
        self._tell = tell
        self._kill = kill
        self._clock = clock
        self._sleep = sleep
        self._told: set[ProcessSignal] = set()
        self._known: dict[tuple[int, int], Process] = {}

    def end(self) -> list[Process]:
        """Stop all processes; return those that had to be killed. Raises StillAlive."""
        deadline = self._clock() + GRACEFUL_SECONDS
        while self._clock() < deadline:
            left = self._remaining()
            if self._replaced() or not left:
                return []
            for order in set(signals_for(left)) - self._told:
                self._told.add(order)
                self._tell(*order)
            self._sleep(PAUSE_SECONDS)
        left = self._remaining()
        if left and not self._replaced():
            self._kill(self._directory, which=lambda process: not is_supervisor(process))
            for process in left:
                self._tell(process, signal.SIGKILL)
        return left

    def _remaining(self) -> list[Process]:
        """Return the remaining processes, even those identified only by an exited parent."""
        for process in self._find(self._directory):
            if not is_supervisor(process):
                self._known[process.pid, process.started] = process
        return [process for process in self._known.values() if is_alive(process)]

    def _replaced(self) -> bool:
        """Return whether another supervisor runs the node; if so, it has cleaned up."""
        try:
            pid = int(Layout(self._directory).supervisor_pid.read_text())
        except (OSError, ValueError):
            return False
        return pid != self._supervisor and read_process(pid) is not None


def _is_postmaster(process: Process) -> bool:
    return program(process.argv) == "postgres" and not process.argv[0].startswith("postgres: ")


if __name__ == "__main__":
    main()
