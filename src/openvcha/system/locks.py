"""Locks between processes (flock): the kernel releases them however their holder ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def try_lock(path: Path, flags: int = LOCK_FILE) -> int | None:
    """Lock a file, made if need be (0600), or a DIRECTORY; return the descriptor to close.

    None: another process holds it, or has removed it since it was opened. Raises OSError.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who holds a lock may remove its file: then the one that was opened locks nobody out.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file that nobody removes, made if need be (0600); wait for it. Raises OSError."""
    descriptor = os.open(path, LOCK_FILE, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
