"""The lock that permits only one supervisor per node directory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from openvcha.system.locks import try_lock


class NodeRuns(Exception):  # noqa: N818 - named after the reason
    """Another supervisor runs this node."""


@contextlib.contextmanager
def lock_node(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel releases it however the process exits. Raises NodeRuns."""
    descriptor = try_lock(path)
    if descriptor is None:
        raise NodeRuns(f"the node in {path.parent.parent} is already running")
    try:
        yield
    finally:
        os.close(descriptor)
