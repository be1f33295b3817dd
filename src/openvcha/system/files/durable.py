"""Files that are complete after a crash, and readable only by their owner."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a write to a full disk."""


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically and durably. Raises OSError."""

    def write(descriptor: int) -> None:
        os.fchmod(descriptor, mode)
        _write(descriptor, data)
        os.fsync(descriptor)

    _replace(path, mode, write)
    sync_directory(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically, not durably: for files of this run only."""
    _replace(path, 0o600, lambda descriptor: _write(descriptor, data))


def overwrite(path: Path, data: bytes) -> None:
    """Overwrite a file in place, neither atomically nor durably; keep its length, at least.

    Spaces fill the rest. On a full disk this succeeds while the data fit into the blocks that the
    file has. Raises OSError, also if there is no file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, len(data))  # otherwise half of it might be written
        os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size), 0)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that the names in it survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, mode: int, write: Callable[[int], None]) -> None:
    """Write a temporary file and rename it; remove it on failure."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = _open_new(temporary, mode)
    try:
        try:
            write(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)


def _open_new(path: Path, mode: int) -> int:
    """Create and open a new file; delete any that a crash has left under its name."""
    while True:
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was faster
            # O_EXCL also prevents following a link.
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
