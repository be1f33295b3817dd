"""Files that are whole after a crash, and read by their owner only."""

import contextlib
import os
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically and make it survive a power loss; raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = _fresh(temporary, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file of this run atomically; what a power loss leaves of it does not count."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = _fresh(temporary, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def _fresh(path: Path, mode: int) -> int:
    """Open a file that nobody has had open before; what a crash has left there goes away."""
    while True:
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            # O_EXCL follows no link either.
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
