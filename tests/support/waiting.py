"""Waiting in tests: for a condition, until a deadline, with what was seen last in the failure."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE_SECONDS = 0.1


def until(
    look: Callable[[], Any],
    seconds: float,
    *,
    seen: Callable[[], object] | None = None,
    absent: tuple[type[Exception], ...] = (),
    pause: float = PAUSE_SECONDS,
) -> Any:
    """Look until it gives something true, and return that; fails at the deadline.

    An error of the kinds in ``absent`` counts as nothing. The failure shows what the last look gave
    or raised, and what ``seen`` gives at the deadline.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            if last := look():
                return last
        except absent as error:
            last = error
        assert time.monotonic() < deadline, _late(seconds, last, seen)
        time.sleep(pause)


async def until_async(
    look: Callable[[], Awaitable[Any]],
    seconds: float,
    *,
    seen: Callable[[], object] | None = None,
    pause: float = PAUSE_SECONDS,
) -> Any:
    """Do the same in an event loop, by its clock."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (last := await look()):
        assert loop.time() < deadline, _late(seconds, last, seen)
        await asyncio.sleep(pause)
    return last


def _late(seconds: float, last: object, seen: Callable[[], object] | None) -> str:
    shown = f", {seen()!r}" if seen else ""
    return f"not within {seconds:g} s: {last!r}{shown}"
