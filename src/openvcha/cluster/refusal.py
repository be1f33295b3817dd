"""Why an operation may not run now, with what follows from it: nobody goes by its text."""

from dataclasses import dataclass
from enum import Enum, auto

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import LocalizableMessage


class Lasts(Enum):
    """How long what refuses an operation may last."""

    LONG = auto()
    """Until somebody does something about it."""
    WHILE = auto()
    """The cluster may leave it behind by itself: who has time waits for that."""
    MOMENT = auto()
    """An election in the store or a late answer gives it, and takes it back in seconds."""


@dataclass(frozen=True)
class Refusal:
    """Why an operation is refused; ``kind`` is the error that a caller gets."""

    reason: LocalizableMessage
    lasts: Lasts = Lasts.LONG
    kind: ErrorType = ErrorType.NOT_ALLOWED_IN_CURRENT_STATE

    @property
    def may_pass(self) -> bool:
        """Return whether it may be over by itself."""
        return self.lasts is not Lasts.LONG

    @property
    def momentary(self) -> bool:
        """Return whether it is more likely over in some seconds than there to stay."""
        return self.lasts is Lasts.MOMENT

    @property
    def error(self) -> ApiError:
        """Return what is raised for it."""
        return ApiError(self.kind, self.reason)
