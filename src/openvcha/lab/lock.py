"""The lock of a lab's directory, for commands that change the lab as a whole."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from openvcha.system.files.locks import DIRECTORY, try_lock

POLL_SECONDS = 0.1


@asynccontextmanager
async def hold(directory: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Lock the directory during a block, after creating it if necessary.

    ``waiting`` is called once if another process has the lock. Raises OSError.
    """
    handle = _take(directory)
    if handle is None:
        waiting()
    while handle is None:
        await asyncio.sleep(POLL_SECONDS)
        handle = _take(directory)
    try:
        yield
    finally:
        os.close(handle)


def _take(directory: Path) -> int | None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return try_lock(directory, DIRECTORY)
