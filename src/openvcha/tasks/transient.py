"""Which failures are transient: the same rule for steps, their waits and their undo.

One failed probe is not a verdict. Steps retry a transient failure until a deadline, and show its
reason meanwhile.
"""

from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.file_errors import TRANSIENT, file_refusal
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.store.errors import (
    Compacted,
    Fenced,
    RecordInvalid,
    RecordMissing,
    StoreError,
    StoreUnavailable,
)
from openvcha.tasks.steps import TemporaryFailure

TRANSIENT_ERRORS: Final = frozenset(
    {
        ErrorType.RESOURCE_BUSY,
        ErrorType.RESOURCE_INACCESSIBLE,
        ErrorType.SERVICE_UNAVAILABLE,
        ErrorType.TIMED_OUT,
    }
)
"""Errors of an infrastructure that is busy, slow or away."""

_LASTING = (Compacted, Fenced, RecordInvalid, RecordMissing)
"""Refusals of the store that a retry cannot change."""


class WaitTimedOut(ApiError):  # noqa: N818 - the outcome of a wait, not an accident
    """A wait reached its deadline; it is not retried."""

    def __init__(self, *messages: LocalizableMessage) -> None:
        super().__init__(ErrorType.TIMED_OUT, *messages)


def transient_reason(error: Exception) -> LocalizableMessage | None:
    """Return the reason to show if ``error`` is transient; None when a retry cannot help."""
    if isinstance(error, TemporaryFailure):
        return error.reason
    if isinstance(error, OSError):
        return file_refusal(error) if error.errno in TRANSIENT else None
    if isinstance(error, StoreUnavailable):
        return message("store.unavailable")
    if isinstance(error, StoreError) and not isinstance(error, _LASTING):
        return message("store.refused", str(error))
    if isinstance(error, WaitTimedOut) or not isinstance(error, ApiError):
        return None
    return error.messages[0] if error.error_type in TRANSIENT_ERRORS and error.messages else None
