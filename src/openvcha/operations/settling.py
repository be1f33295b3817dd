"""A refusal by a state that passes: one bad look is no verdict, so the cluster is looked at again.

While the store elects, or the active's database starts again, nothing is active for some seconds.
A caller who is refused then has been told something that is wrong by the time he reads it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from openvcha.api.errors import ApiError, ErrorType
from openvcha.cluster import preconditions
from openvcha.cluster.observation import Observation
from openvcha.cluster.preconditions import Reason
from openvcha.operations.context import Services

SETTLE_SECONDS = 10.0
"""As long as a peer may take to answer; a client waits longer."""
LOOK_SECONDS = 0.25


async def settled(
    services: Services, why_not: Callable[[Observation], Reason]
) -> tuple[Observation, Reason]:
    """Return what was seen last and why that is refused; looks again while it may soon be over."""
    now = asyncio.get_running_loop().time
    deadline = now() + SETTLE_SECONDS
    while True:
        seen = await services.observe()
        reason = why_not(seen)
        if reason is None or not preconditions.momentary(reason) or now() >= deadline:
            return seen, reason
        await asyncio.sleep(LOOK_SECONDS)


async def allowed(services: Services, operation: str) -> Observation:
    """Return what was seen when ``operation`` (its full id) was found to be allowed.

    Raises ApiError NOT_ALLOWED_IN_CURRENT_STATE with the reason.
    """
    seen, reason = await settled(services, partial(preconditions.why_not, operation))
    if reason is not None:
        raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, reason)
    return seen
