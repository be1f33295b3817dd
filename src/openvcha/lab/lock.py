"""One at a time: who changes a lab as a whole holds its directory."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from openvcha.system.locks import DIRECTORY, try_lock

POLL_SECONDS = 0.1


@asynccontextmanager
async def hold(directory: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the directory during a block, making it if need be; the kernel ends it with us.

    ``waiting`` is called once when another process holds it. Raises OSError.
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
