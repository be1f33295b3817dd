"""Which failures may pass by themselves: one answer for steps, for their waits and their undo.

One bad look is not a verdict. What may pass is tried again, its reason is shown meanwhile, and a
deadline ends it.
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
from openvcha.tasks.steps import Temporary

PASSING: Final = frozenset(
    {
        ErrorType.RESOURCE_BUSY,
        ErrorType.RESOURCE_INACCESSIBLE,
        ErrorType.SERVICE_UNAVAILABLE,
        ErrorType.TIMED_OUT,
    }
)
"""What an infrastructure raises that is busy, slow or away."""

_LASTING = (Compacted, Fenced, RecordInvalid, RecordMissing)
"""Refusals of the store that will be the same the next time."""


class GivenUp(ApiError):  # noqa: N818 - the outcome of a wait, not an accident
    """A wait that has had its time: it is not waited for once more."""

    def __init__(self, *messages: LocalizableMessage) -> None:
        super().__init__(ErrorType.TIMED_OUT, *messages)


def passing(error: Exception) -> LocalizableMessage | None:
    """Return the reason to show while ``error`` may pass; None when trying again cannot help."""
    if isinstance(error, Temporary):
        return error.reason
    if isinstance(error, OSError):
        return file_refusal(error) if error.errno in TRANSIENT else None
    if isinstance(error, StoreUnavailable):
        return message("store.unavailable")
    if isinstance(error, StoreError) and not isinstance(error, _LASTING):
        return message("store.refused", str(error))
    if isinstance(error, GivenUp) or not isinstance(error, ApiError):
        return None
    return error.messages[0] if error.error_type in PASSING and error.messages else None
