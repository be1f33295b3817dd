"""One look for all who ask at once: never one that began before somebody asked for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Run(Generic[T]):
    """One run of the work, and how many wait for it."""

    task: "asyncio.Task[T]"
    waiting: int = 0


class Shared(Generic[T]):
    """Does ``work`` once for all who ask before it begins; one run at a time.

    Who asks during a run shares the next one with all others who do. They share its result or its
    error. Who is canceled leaves the others their run; without anybody left it is canceled too.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._next: _Run[T] | None = None
        """The run that has not begun."""
        self._last: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return what a run finds that begins from now on."""
        run = self._next
        if run is None:
            self._last = asyncio.create_task(self._after(self._last), name="a look that is shared")
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
