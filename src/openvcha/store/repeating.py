"""Work that is done again and again: what may pass by itself does not end it, and is logged once.

Whatever else it raises ends it. What runs in the background is supervised beside that: there
``node.process.supervised_loop`` begins anew what has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

Attempt = Callable[[], Awaitable[float | None]]
"""Does it once; returns the seconds until the next time, None: as many as usual."""


async def repeat(
    attempt: Attempt,
    seconds: float,
    *,
    passing: tuple[type[Exception], ...] = (),
    failed: Callable[[str], object] = lambda _: None,
    pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> NoReturn:
    """Do it until canceled, with a ``pause`` of ``seconds`` after each time.

    ``failed`` takes the reason of a failure that is ``passing``: once, until it has gone well or
    the reason is another one. Raises what is not ``passing``.
    """
    shown = None
    while True:
        wished = None
        try:
            wished = await attempt()
            shown = None
        except passing as error:
            if (reason := str(error)) != shown:
                shown = reason
                failed(reason)
        await pause(seconds if wished is None else wished)
