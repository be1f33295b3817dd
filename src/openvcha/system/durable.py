"""Files that are whole after a crash, and read by their owner only."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically and make it survive a power loss; raises OSError."""

    def write(descriptor: int) -> None:
        os.fchmod(descriptor, mode)
        _write(descriptor, data)
        os.fsync(descriptor)

    _replace(path, mode, write)
    sync_directory(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file of this run atomically; what a power loss leaves of it does not count."""
    _replace(path, 0o600, lambda descriptor: _write(descriptor, data))


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, mode: int, write: Callable[[int], None]) -> None:
    """Write a file beside it and rename it; one that could not be written is removed."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = _fresh(temporary, mode)
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


def _fresh(path: Path, mode: int) -> int:
    """Open a file that nobody has had open before; what a crash has left there goes away."""
    while True:
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            # O_EXCL follows no link either.
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
