"""Refusals: why an operation may not run now, as a type, so that no code depends on the text."""

from dataclasses import dataclass
from enum import Enum, auto

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import LocalizableMessage


class Persistence(Enum):
    """How long the reason of a refusal may last."""

    PERMANENT = auto()
    """Until an operator acts."""
    TRANSIENT = auto()
    """It may pass by itself: a task waits for that."""
    MOMENTARY = auto()
    """An election in the store or a late reply causes it: it passes in seconds."""


@dataclass(frozen=True)
class Refusal:
    """Why an operation is refused; ``kind`` is the error that a caller gets."""

    reason: LocalizableMessage
    persistence: Persistence = Persistence.PERMANENT
    kind: ErrorType = ErrorType.NOT_ALLOWED_IN_CURRENT_STATE

    @property
    def transient(self) -> bool:
        """Return whether it may pass by itself."""
        return self.persistence is not Persistence.PERMANENT

    @property
    def momentary(self) -> bool:
        """Return whether it is likely to pass in seconds."""
        return self.persistence is Persistence.MOMENTARY

    @property
    def error(self) -> ApiError:
        """Return the error to raise for it."""
        return ApiError(self.kind, self.reason)
