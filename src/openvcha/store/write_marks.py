"""Marks of finished writes, so that a proof of a mirror's copy is void after any of them.

Several processes may serve the API of a node. Each has a copy of its own, and a client may write
through one and read through another.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final, Protocol

MAX_WRITERS: Final = 16
_BYTES: Final = 8
"""One machine word: written at once, so that no reader sees half a count."""


class WriteMarks(Protocol):
    """The marks of all writes that a copy must reflect at once."""

    def add(self) -> None:
        """Mark a write that is over, whatever its outcome."""

    def state(self) -> object:
        """Return a value that differs after each mark."""


class OwnWrites:
    """The marks of this object's user only."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        """Mark a write that is over, whatever its outcome."""
        self._count += 1

    def state(self) -> int:
        """Return a value that differs after each mark."""
        return self._count


class SharedWrites:
    """The marks of all processes that use the same file; ``writer`` (1 to MAX_WRITERS) is unique.

    Each process counts in a word of its own, so none overwrites another's. The counts survive the
    processes: one that starts again continues its own.
    """

    def __init__(self, path: Path, writer: int) -> None:
        """Map the file, and create it if necessary.

        Raises OSError, also for a full disk; ValueError for the writer.
        """
        if not 1 <= writer <= MAX_WRITERS:
            raise ValueError(f"there is no writer {writer}")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            # Extends a new file with zeros, and leaves an existing one as it is. It has no holes
            # afterwards: writing to one on a full disk would be a SIGBUS.
            os.posix_fallocate(descriptor, 0, MAX_WRITERS * _BYTES)
            self._map = mmap.mmap(descriptor, MAX_WRITERS * _BYTES)
        finally:
            os.close(descriptor)
        self._counts = memoryview(self._map).cast("Q")
        self._own = writer - 1

    def add(self) -> None:
        """Mark a write that is over, whatever its outcome."""
        self._counts[self._own] += 1

    def state(self) -> bytes:
        """Return a value that differs after each mark of any process."""
        return self._map[:]

    def close(self) -> None:
        """Unmap the file."""
        self._counts.release()
        with contextlib.suppress(BufferError):
            self._map.close()
