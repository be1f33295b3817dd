"""The processes of a lab's nodes."""

import signal
from pathlib import Path

from openvcha.node.process.process_tree import find_tree, read_table, send
from openvcha.system.proc import read_stat


def pid_of(directory: Path, part: str) -> int:
    """Return the process of one part, found by its command line."""
    return next(
        process.pid
        for process in read_table().values()
        if part in process.argv and str(directory) in process.argv
    )


def signal_node(directory: Path, signal_: signal.Signals) -> None:
    """Stop or continue all processes of a node; return when all are stopped."""
    if signal_ is signal.SIGSTOP:
        while frozen := [p for p in find_tree(directory) if not is_stopped(p.pid)]:
            for process in frozen:
                send(process, signal_)
    else:
        for process in find_tree(directory):
            send(process, signal_)


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped, or gone."""
    stat = read_stat(pid)
    return stat is None or stat.state == "T"
