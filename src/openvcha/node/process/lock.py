"""One supervisor for each node directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class NodeRuns(Exception):  # noqa: N818 - reads as the reason
    """Another supervisor holds the node."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel gives it up however the process ends. Raises NodeRuns."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeRuns(f"the node in {path.parent.parent} is already running") from None
        yield
    finally:
        os.close(descriptor)
