"""Ends a node's programs when the supervisor has died: nobody starts them again, or fences them.

Left alone they would go on half: Patroni renews the leader key, so that nobody takes over, while
etcd ends at the first line that it cannot write. So the death of a supervisor is the node's end.
Its hang is too: nobody reads what the programs log, so each of them waits for ever as soon as its
pipe is full, the store with a vote and Patroni with the lead. A supervisor that hangs is killed.

What waits for that is `supervisor_watch.py`, which becomes this program then. It stays deaf
to what a service manager sends to all that is left: PostgreSQL would take a SIGTERM for the wish to
wait for its clients.
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

ORDER_SECONDS = 8.0
"""What has not ended by then is killed: a leader key that is not renewed lives for 20 s."""
PAUSE_SECONDS = 0.2

Order = tuple[Process, signal.Signals]


def main() -> None:
    """End the node of a directory, whose supervisor had this id and has died, or hangs."""
    directory, supervisor, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if how == HANGS and os.getppid() == supervisor:
        os.kill(supervisor, signal.SIGKILL)
    # Beside it: the disk that the supervisor waits for may be the one that has the logs.
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


def orders(processes: Iterable[Process]) -> Iterator[Order]:
    """Choose what each process of a node without a supervisor is told now.

    Patroni ends its PostgreSQL and gives the lead away; for that it needs the store, so etcd is
    told when neither is there any more. A PostgreSQL without Patroni is told to end its sessions.
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
    """Return whether it is one: it can only be the next, which ends what is left by itself."""
    return node_run(process.argv) is not None and ("node", "run") in pairwise(process.argv)


class Reaper:
    """Ends what a supervisor has left, in order at first; leaves the work to the next supervisor.

    A process is never told the same twice: PostgreSQL takes a second word for another.
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
        self._told: set[Order] = set()
        self._known: dict[tuple[int, int], Process] = {}

    def end(self) -> list[Process]:
        """End all; return what had to be killed. Raises StillAlive."""
        deadline = self._clock() + ORDER_SECONDS
        while self._clock() < deadline:
            left = self._look()
            if self._replaced() or not left:
                return []
            for order in set(orders(left)) - self._told:
                self._told.add(order)
                self._tell(*order)
            self._sleep(PAUSE_SECONDS)
        left = self._look()
        if left and not self._replaced():
            self._kill(self._directory, which=lambda process: not is_supervisor(process))
            for process in left:
                self._tell(process, signal.SIGKILL)
        return left

    def _look(self) -> list[Process]:
        """Return what is left, also what only a parent that is gone by now has named."""
        for process in self._find(self._directory):
            if not is_supervisor(process):
                self._known[process.pid, process.started] = process
        return [process for process in self._known.values() if is_alive(process)]

    def _replaced(self) -> bool:
        """Return whether another supervisor holds the node: it has ended what was left by then."""
        try:
            pid = int(Layout(self._directory).supervisor_pid.read_text())
        except (OSError, ValueError):
            return False
        return pid != self._supervisor and read_process(pid) is not None


def _is_postmaster(process: Process) -> bool:
    return program(process.argv) == "postgres" and not process.argv[0].startswith("postgres: ")


if __name__ == "__main__":
    main()
