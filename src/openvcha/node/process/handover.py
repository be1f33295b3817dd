"""What root requires of a node's directory before it works there or gives it to an account."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from openvcha.node.identity import IDENTITY, absolute
from openvcha.node.process.process_tree import NodeProcesses
from openvcha.system.files.path_owners import CannotDropRoot


def require_node(directory: Path, *, changes_owner: bool) -> None:
    """Raise CannotDropRoot unless it is a node's; also if it `changes_owner` while that node runs.

    Raises OSError.
    """
    if not _has_identity(directory):
        raise CannotDropRoot(f"{directory} is not a node's directory: it has no {IDENTITY}")
    if changes_owner:
        require_stopped([directory])


def require_stopped(directories: Sequence[Path]) -> None:
    """Raise CannotDropRoot while programs of root run in one of these nodes' directories.

    They could no longer open their files once another account owns these, nor could that account
    end them.
    """
    found = NodeProcesses().find_each([absolute(directory) for directory in directories])
    for directory, pids in zip(directories, found, strict=True):
        if pids:
            listed = " ".join(map(str, pids))
            raise CannotDropRoot(
                f"another account is to own {directory}, but programs of the node there still run"
                f" as root: end them first (`kill {listed}`)"
            )


def _has_identity(directory: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(directory / IDENTITY).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
