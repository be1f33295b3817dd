"""The lock that permits only one supervisor per node directory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from openvcha.system.accounts.local_user import account_name
from openvcha.system.files.locks import lock_holder, try_lock
from openvcha.system.proc import PROC, read_uid


class NodeRuns(Exception):  # noqa: N818 - named after the reason
    """Another supervisor runs this node."""


@contextlib.contextmanager
def lock_node(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel releases it however the process exits. Raises NodeRuns."""
    descriptor = try_lock(path)
    if descriptor is None:
        holder = foreign_holder(path, os.geteuid())
        runs = f"already run by {holder}" if holder else "already running"
        raise NodeRuns(f"the node in {path.parent.parent} is {runs}")
    try:
        yield
    finally:
        os.close(descriptor)


def foreign_holder(path: Path, uid: int) -> str | None:
    """Return who holds the lock file, if not the account `uid`, and how to end that process.

    Only the node's own account can open the file. So the holder is a supervisor that was started
    when the directory was another account's.
    """
    try:
        pid = lock_holder(path)
    except OSError:
        return None
    if pid is None or (owner := read_uid(pid)) == uid or not (PROC / str(pid)).exists():
        return None
    account = "another account" if owner is None else f"account {account_name(owner)}"
    return f"process {pid} of {account}; end it, as that account or as root, with `kill {pid}`"
