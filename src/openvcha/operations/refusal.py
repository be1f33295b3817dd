"""Refusing in a task: only for what will not pass by itself; before a task see settling.py."""

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import preconditions
from openvcha.cluster.observation import Observation
from openvcha.tasks.steps import Temporary


def require_still(operation: str, seen: Observation) -> None:
    """Require in a step what was required before its task was promised.

    Raises Temporary for what may pass, ApiError NOT_ALLOWED_IN_CURRENT_STATE for the rest.
    """
    if reason := preconditions.why_not(operation, seen):
        refuse_still(reason)


def refuse_still(reason: LocalizableMessage) -> None:
    """Raise as ``require_still`` does."""
    if preconditions.may_pass(reason):
        raise Temporary(reason)
    raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, reason)
