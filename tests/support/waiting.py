"""Waiting in tests: for a condition, until a deadline; a failure shows the last value seen."""

import asyncio
import inspect
import time
from collections.abc import Callable
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
    """Poll until the result is true, and return it; fail at the deadline.

    An error of the kinds in ``absent`` counts as nothing. The failure shows the last result or
    error, and what ``seen`` returns at the deadline.
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
    look: Callable[[], Any],
    seconds: float,
    *,
    seen: Callable[[], object] | None = None,
    pause: float = PAUSE_SECONDS,
) -> Any:
    """Do the same in an event loop, by its clock; the result of ``look`` may be awaitable.

    A ``look`` that hangs is cancelled at the deadline too.
    """
    last: object = "no look has ended"
    try:
        async with asyncio.timeout(seconds) as limit:
            while not (last := await _awaited(look())):  # noqa: ASYNC110 - any condition
                await asyncio.sleep(pause)
    except TimeoutError:
        if not limit.expired():
            raise  # the error is the look's own
        raise AssertionError(_late(seconds, last, seen)) from None
    return last


async def _awaited(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _late(seconds: float, last: object, seen: Callable[[], object] | None) -> str:
    shown = f", {seen()!r}" if seen else ""
    return f"not within {seconds:g} s: {last!r}{shown}"
