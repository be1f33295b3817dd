"""Preconditions of operations: required before a task is created, and again in its steps.

``cluster.preconditions`` decides them. One failed observation is no verdict: during an election of
the store or a restart of the active's PostgreSQL, there is no active for some seconds, and a
refusal would be outdated by the time the caller reads it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import preconditions
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.refusal import Refusal
from openvcha.operations.context import Services
from openvcha.tasks.steps import TemporaryFailure

SETTLE_SECONDS = 10.0
"""As long as a peer may take to respond; clients wait longer."""
POLL_SECONDS = 0.25

WhyNot = Callable[[Observation], Refusal | None]
"""Returns why an operation is refused in an observation; None if it is not."""


async def require_idle(services: Services) -> None:
    """Raise ApiError RESOURCE_BUSY, naming the operation, if one is running."""
    if running := await services.journal.running():
        raise running.busy_error


async def hindrances(services: Services, task: str = "") -> tuple[LocalizableMessage, ...]:
    """Return what a new node must wait for: a task other than ``task``, a credential rotation."""
    found: list[LocalizableMessage] = []
    running = await services.journal.running()
    if running is not None and running.id != task:
        found.append(running.busy)
    if services.credentials.pending():
        found.append(message("credentials.pending"))
    return tuple(found)


async def require_unhindered(services: Services, task: str) -> None:
    """Require in the first step of ``task`` that nothing hinders it. Raises TemporaryFailure.

    Otherwise it would fail later, when the old node has been fenced.
    """
    if found := await hindrances(services, task):
        raise TemporaryFailure(found[0])


async def settled(services: Services, why_not: WhyNot) -> tuple[Observation, Refusal | None]:
    """Return the last observation and its refusal; observe again while the refusal is momentary."""
    now = asyncio.get_running_loop().time
    deadline = now() + SETTLE_SECONDS
    while True:
        seen = await services.observe()
        refusal = why_not(seen)
        if refusal is None or not refusal.momentary or now() >= deadline:
            return seen, refusal
        await asyncio.sleep(POLL_SECONDS)


async def require(services: Services, why_not: WhyNot) -> Observation:
    """Require that no operation is running and ``why_not`` does not refuse; return the observation.

    Raises ApiError: RESOURCE_BUSY, or the refusal's error.
    """
    await require_idle(services)
    seen, refusal = await settled(services, why_not)
    if refusal is not None:
        raise refusal.error
    return seen


async def require_operation(services: Services, operation: str) -> Observation:
    """Require the preconditions of ``operation`` (its full id), as ``require`` does."""
    return await require(services, partial(preconditions.why_not, operation))


def require_still(refusal: Refusal | None) -> None:
    """Require in a step that the preconditions of its task still hold: ``refusal`` is None.

    Raises TemporaryFailure for a transient refusal, else ApiError.
    """
    if refusal is None:
        return
    if refusal.transient:
        raise TemporaryFailure(refusal.reason)
    raise refusal.error
