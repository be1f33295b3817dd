"""Periodic work: transient failures do not end it, and each of them is logged once.

Any other exception ends it. ``node.process.supervised_loop`` supervises background work, and
restarts it when it has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

Attempt = Callable[[], Awaitable[float | None]]
"""Runs once; returns the seconds until the next run, or None for the default."""


async def repeat(
    attempt: Attempt,
    seconds: float,
    *,
    transient: tuple[type[Exception], ...] = (),
    failed: Callable[[str], object] = lambda _: None,
    pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> NoReturn:
    """Run ``attempt`` until canceled, with a ``pause`` of ``seconds`` after each run.

    ``failed`` receives the reason of a ``transient`` failure once, until a run succeeds or the
    reason changes. Raises any error that is not ``transient``.
    """
    shown = None
    while True:
        delay = None
        try:
            delay = await attempt()
            shown = None
        except transient as error:
            if (reason := str(error)) != shown:
                shown = reason
                failed(reason)
        await pause(seconds if delay is None else delay)
