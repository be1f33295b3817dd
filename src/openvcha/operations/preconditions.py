"""Requiring that an operation may run: before its task is promised, and again in its steps.

Why it may not is said by ``cluster.preconditions`` alone. One bad look is no verdict: while the
store elects, or the active's database starts again, nothing is active for some seconds, and a
caller who is refused then has been told something that is wrong by the time he reads it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.cluster import preconditions
from openvcha.cluster.observation import Observation
from openvcha.cluster.refusal import Refusal
from openvcha.operations.context import Services
from openvcha.tasks.steps import Temporary

SETTLE_SECONDS = 10.0
"""As long as a peer may take to answer; a client waits longer."""
LOOK_SECONDS = 0.25

WhyNot = Callable[[Observation], Refusal | None]
"""Says why an operation is refused in what was seen; None: it is not."""


async def require_idle(services: Services) -> None:
    """Raise ApiError RESOURCE_BUSY naming the operation that runs, when there is one."""
    if running := await services.journal.running():
        busy = message("task.busy", running.operation_id, running.id)
        raise ApiError(ErrorType.RESOURCE_BUSY, busy)


async def settled(services: Services, why_not: WhyNot) -> tuple[Observation, Refusal | None]:
    """Return what was seen last and why that is refused; looks again while it may soon be over."""
    now = asyncio.get_running_loop().time
    deadline = now() + SETTLE_SECONDS
    while True:
        seen = await services.observe()
        refusal = why_not(seen)
        if refusal is None or not refusal.momentary or now() >= deadline:
            return seen, refusal
        await asyncio.sleep(LOOK_SECONDS)


async def require(services: Services, why_not: WhyNot) -> Observation:
    """Require that no operation runs, and that nothing refuses this one; return what was seen.

    Raises ApiError: RESOURCE_BUSY, or as the refusal has it.
    """
    await require_idle(services)
    seen, refusal = await settled(services, why_not)
    if refusal is not None:
        raise refusal.error
    return seen


async def require_operation(services: Services, operation: str) -> Observation:
    """Require as ``require`` does what ``operation`` (its full id) needs."""
    return await require(services, partial(preconditions.why_not, operation))


def require_still(refusal: Refusal | None) -> None:
    """Require in a step what was required before its task was promised.

    Raises Temporary for what may pass by itself, ApiError for the rest.
    """
    if refusal is None:
        return
    if refusal.may_pass:
        raise Temporary(refusal.reason)
    raise refusal.error
