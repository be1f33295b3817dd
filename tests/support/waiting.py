"""Waiting in tests: for a condition, until a deadline, with what was seen last in the failure."""

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
    look: Callable[[], Any],
    seconds: float,
    *,
    seen: Callable[[], object] | None = None,
    pause: float = PAUSE_SECONDS,
) -> Any:
    """Do the same in an event loop, by its clock; what ``look`` gives may be awaitable.

    A look that hangs ends at the deadline too.
    """
    last: object = "no look has ended"
    try:
        async with asyncio.timeout(seconds) as limit:
            while not (last := await _awaited(look())):  # noqa: ASYNC110 - any condition
                await asyncio.sleep(pause)
    except TimeoutError:
        if not limit.expired():
            raise  # it is the look's own
        raise AssertionError(_late(seconds, last, seen)) from None
    return last


async def _awaited(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


def _late(seconds: float, last: object, seen: Callable[[], object] | None) -> str:
    shown = f", {seen()!r}" if seen else ""
    return f"not within {seconds:g} s: {last!r}{shown}"
