"""The processes of a lab's nodes."""

from pathlib import Path

from openvcha.node.process.process_tree import read_table


def pid_of(directory: Path, part: str) -> int:
    """Return the process of one part, found by its command line."""
    return next(
        process.pid
        for process in read_table().values()
        if part in process.argv and str(directory) in process.argv
    )
