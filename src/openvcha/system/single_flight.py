"""Single flight: concurrent callers share one call, which begins after they asked."""

import asyncio
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
    """One shared call of ``work`` for all callers that ask before it begins; one at a time.

    Callers that ask during a call share the next one, with its result or its error. Canceling a
    caller does not affect the others; a call without any waiter is canceled.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._next: _Run[T] | None = None
        """The run that has not begun."""
        self._last: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return the result of a call that begins after this one."""
        run = self._next
        if run is None:
            self._last = asyncio.create_task(self._after(self._last), name="shared look")
            run = self._next = _Run(self._last)
        run.waiting += 1
        try:
            return await asyncio.shield(run.task)
        finally:
            run.waiting -= 1
            if not run.waiting and not run.task.done():
                await self._give_up(run)

    async def _after(self, previous: "asyncio.Task[T] | None") -> T:
        if previous is not None:
            await asyncio.wait([previous])
        self._next = None
        return await self._work()

    async def _give_up(self, run: _Run[T]) -> None:
        if self._next is run:
            self._next = None
        run.task.cancel()
        await asyncio.wait([run.task])
