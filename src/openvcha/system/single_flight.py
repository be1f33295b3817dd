"""Single flight: concurrent callers share one call, which begins after they asked."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Run(Generic[T]):
    """One call, and the number of its waiters."""

    task: "asyncio.Task[T]"
    waiting: int = 0


class SingleFlight(Generic[T]):
    """One shared call of ``work`` for all callers that ask before it begins.

    At most ``concurrent`` calls run at once. Callers that ask meanwhile share the next one, with
    its result or its error. Canceling a caller does not affect the others; a call without any
    waiter is canceled. No call runs in the context of one of its callers: it serves all.
    """

    def __init__(self, work: Callable[[], Awaitable[T]], concurrent: int = 1) -> None:
        self._work = work
        self._free = asyncio.Semaphore(concurrent)
        self._next: _Run[T] | None = None
        """The run that has not begun."""

    async def __call__(self) -> T:
        """Return the result of a call that begins after this one."""
        run = self._next
        if run is None:
            begun = asyncio.create_task(
                self._begin(), name="shared look", context=contextvars.Context()
            )
            run = self._next = _Run(begun)
        run.waiting += 1
        try:
            return await asyncio.shield(run.task)
        finally:
            run.waiting -= 1
            if not run.waiting and not run.task.done():
                await self._give_up(run)

    async def _begin(self) -> T:
        async with self._free:
            self._next = None
            return await self._work()

    async def _give_up(self, run: _Run[T]) -> None:
        if self._next is run:
            self._next = None
        run.task.cancel()
        await asyncio.wait([run.task])
