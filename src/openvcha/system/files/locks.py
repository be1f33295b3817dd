"""Locks between processes (flock): the kernel releases them however the holder ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def try_lock(path: Path, flags: int = LOCK_FILE) -> int | None:
    """Lock a file, created if missing (0600), or a DIRECTORY; return the descriptor to close.

    Return None if another process holds the lock, or has just removed the file. Raises OSError.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder may have removed the file: then this one excludes no other process.
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
def locked(path: Path, flags: int = LOCK_FILE) -> Iterator[None]:
    """Hold a lock; wait for it. Raises OSError.

    It is a file, created if missing (0600), never removed, or a DIRECTORY.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def lock_holder(path: Path, proc: Path = Path("/proc")) -> int | None:
    """Return the pid of the process that has locked a file. Raises OSError.

    None if there is none, or if it is unknown: it runs in another pid namespace, or the file system
    numbers its devices itself.
    """
    found = path.stat()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for line in (proc / "locks").read_text().splitlines():
        # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:12345 0 EOF"; of one that waits: "1: -> FLOCK …"
        words = line.split()
        if words[1] == "FLOCK" and words[5] == f"{device}:{found.st_ino}":
            return pid if (pid := int(words[4])) > 0 else None
    return None
