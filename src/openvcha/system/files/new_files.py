"""Waiting for a file that another program writes, with inotify.

Polling costs an idle node more than all its other waiting. Each account has a limited number of
inotify watches: without one, or on a file system that does not support them, the file is polled.
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SELDOM_SECONDS: Final = 5.0
"""The polling interval despite inotify: a folder may have been replaced."""
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_EVENTS_BYTES: Final = 64 << 10


async def until_exists(path: Path, poll_seconds: float) -> None:
    """Wait until a file exists; without inotify poll every ``poll_seconds``."""
    with _changes_below(path.parent) as changed:
        pause = poll_seconds if changed is None else SELDOM_SECONDS
        while not path.exists():  # noqa: ASYNC240 - faster than a thread
            await _either(changed, pause)


async def _either(changed: asyncio.Event | None, seconds: float) -> None:
    """Wait for a change, at most ``seconds``."""
    if changed is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
    changed.clear()


@contextmanager
def _changes_below(folder: Path) -> Iterator[asyncio.Event | None]:
    """Yield an event that is set when a name appears in a folder; None without inotify."""
    try:
        notices = open_notices(folder)
    except OSError:
        yield None
        return
    changed, loop = asyncio.Event(), asyncio.get_running_loop()

    def note() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(notices, _EVENTS_BYTES)
        changed.set()

    loop.add_reader(notices, note)
    try:
        yield changed
    finally:
        loop.remove_reader(notices)
        os.close(notices)


def open_notices(folder: Path) -> int:
    """Return a descriptor that becomes readable when a name appears in a folder. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    notices: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if notices < 0:
        raise _last_error(folder)
    if libc.inotify_add_watch(notices, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO) < 0:
        error = _last_error(folder)
        os.close(notices)
        raise error
    return notices


def _last_error(folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), os.fspath(folder))
