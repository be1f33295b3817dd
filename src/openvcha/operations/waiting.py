"""Waits: always with a condition, a deadline, and a reason that is shown."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.tasks.steps import Step, TaskContext
from openvcha.tasks.transient import WaitTimedOut, transient_reason

POLL_SECONDS = 0.05

Unmet = LocalizableMessage | None


async def wait_until(
    ctx: TaskContext,
    unmet: Callable[[], Awaitable[Unmet]],
    seconds: float,
    fraction: float = 0.0,
    pause: float = POLL_SECONDS,
) -> None:
    """Wait until ``unmet`` returns None; its results are the task's progress messages.

    ``pause`` is the time between two checks, in seconds. A transient failure
    (tasks/transient.py) is a reason to wait like any other.
    Raises WaitTimedOut naming the last reason after ``seconds``; Canceled when asked to stop.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    shown: Unmet = None
    while (reason := await _reason(unmet)) is not None:
        if reason != shown:
            await ctx.progress(fraction, reason)
            shown = reason
        if asyncio.get_running_loop().time() >= deadline:
            timeout = message("wait.timeout", f"{seconds:g}")
            raise WaitTimedOut(timeout, reason)
        await ctx.pause(pause)


async def _reason(unmet: Callable[[], Awaitable[Unmet]]) -> Unmet:
    try:
        return await unmet()
    except Exception as error:
        reason = transient_reason(error)
        if reason is None:
            raise
        return reason


class Awaited(Step):
    """A step that changes nothing: it waits for a condition."""

    seconds: float
    """The longest wait."""

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether nothing is missing."""
        del ctx
        return await self.unmet() is None

    async def act(self, ctx: TaskContext) -> None:
        """Wait. Raises WaitTimedOut with what is missing."""
        await wait_until(ctx, self.unmet, self.seconds)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""

    @abstractmethod
    async def unmet(self) -> Unmet:
        """Return what is still missing, for people; None when nothing is."""
