"""The standard errors and their HTTP statuses."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.types import AnyError, Enumeration, Structure


class ErrorType(Enumeration, vapi="com.vmware.vapi.std.errors.error.type"):
    """The standard errors of vAPI."""

    ERROR = "ERROR"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ALREADY_IN_DESIRED_STATE = "ALREADY_IN_DESIRED_STATE"
    CANCELED = "CANCELED"
    CONCURRENT_CHANGE = "CONCURRENT_CHANGE"
    FEATURE_IN_USE = "FEATURE_IN_USE"
    INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_ELEMENT_CONFIGURATION = "INVALID_ELEMENT_CONFIGURATION"
    INVALID_ELEMENT_TYPE = "INVALID_ELEMENT_TYPE"
    INVALID_REQUEST = "INVALID_REQUEST"
    NOT_ALLOWED_IN_CURRENT_STATE = "NOT_ALLOWED_IN_CURRENT_STATE"
    NOT_FOUND = "NOT_FOUND"
    OPERATION_NOT_FOUND = "OPERATION_NOT_FOUND"
    RESOURCE_BUSY = "RESOURCE_BUSY"
    RESOURCE_IN_USE = "RESOURCE_IN_USE"
    RESOURCE_INACCESSIBLE = "RESOURCE_INACCESSIBLE"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    TIMED_OUT = "TIMED_OUT"
    UNABLE_TO_ALLOCATE_RESOURCE = "UNABLE_TO_ALLOCATE_RESOURCE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNEXPECTED_INPUT = "UNEXPECTED_INPUT"
    UNSUPPORTED = "UNSUPPORTED"
    UNVERIFIED_PEER = "UNVERIFIED_PEER"

    @property
    def structure(self) -> str:
        """Return the full vAPI name of the error's structure."""
        return f"com.vmware.vapi.std.errors.{self.value.lower()}"


_OTHER_THAN_400 = {
    ErrorType.UNAUTHENTICATED: 401,
    ErrorType.UNAUTHORIZED: 403,
    ErrorType.NOT_FOUND: 404,
    ErrorType.OPERATION_NOT_FOUND: 404,
    ErrorType.CONCURRENT_CHANGE: 409,
    ErrorType.ERROR: 500,
    ErrorType.INTERNAL_SERVER_ERROR: 500,
    ErrorType.RESOURCE_BUSY: 500,
    ErrorType.RESOURCE_INACCESSIBLE: 500,
    ErrorType.UNABLE_TO_ALLOCATE_RESOURCE: 500,
    ErrorType.SERVICE_UNAVAILABLE: 503,
    ErrorType.TIMED_OUT: 504,
}

#: HTTP status on /api.
STATUS: Mapping[ErrorType, int] = MappingProxyType(
    {error: _OTHER_THAN_400.get(error, 400) for error in ErrorType}
)

#: HTTP status on /rest, where ERROR and the RESOURCE_ ones are 400.
LEGACY_STATUS: Mapping[ErrorType, int] = MappingProxyType(
    {
        **STATUS,
        **{
            error: 400
            for error in ErrorType
            if error is ErrorType.ERROR or error.value.startswith("RESOURCE_")
        },
    }
)


class ApiError(AnyError):
    """A standard error: the first message is the caller's view, each next one its cause.

    `data` is a structure for programs; `challenge` says how to authenticate (UNAUTHENTICATED).
    `retry_after` is the number of seconds after which to try again, for HTTP's header.
    """

    def __init__(
        self,
        error_type: ErrorType,
        *messages: LocalizableMessage,
        data: Structure | None = None,
        challenge: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(error_type, *messages)
        self.error_type = error_type
        self.messages = messages
        self.data = data
        self.challenge = challenge
        self.retry_after = retry_after

    def __str__(self) -> str:
        texts = " ".join(message.default_message for message in self.messages)
        return f"{self.error_type.value}: {texts}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApiError):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.error_type, tuple(message.id for message in self.messages)))

    def _key(self) -> tuple[object, ...]:
        return self.error_type, self.messages, self.data, self.challenge


def fail(
    error_type: ErrorType, *messages: LocalizableMessage, data: Structure | None = None
) -> NoReturn:
    """Raise an ApiError of this type, with these messages."""
    raise ApiError(error_type, *messages, data=data)
