"""The differences between wire formats: how each wraps values, in both directions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from openvcha.api.errors import ApiError


@dataclass(frozen=True)
class WireFormat(ABC):
    """A protocol's wrapping of values: structures, optionals, secrets, maps and errors.

    The values to wrap are already encoded; unwrapped values are decoded later. ``path`` names the
    field in an error message; a wrong value raises ApiError INVALID_ARGUMENT.
    """

    @abstractmethod
    def wrap_structure(self, name: str, values: dict[str, Any]) -> Any:
        """Wrap the fields of a structure of this name."""

    @abstractmethod
    def unwrap_structure(self, name: str, value: Any, path: str) -> dict[str, Any]:
        """Return the fields of a structure of this name."""

    @abstractmethod
    def wrap_optional(self, value: Any) -> Any:
        """Wrap an optional value; None is unset."""

    @abstractmethod
    def unwrap_optional(self, value: Any, path: str) -> Any:
        """Return the value of an optional; None when it is unset."""

    @abstractmethod
    def wrap_secret(self, text: str) -> Any:
        """Wrap the text of a secret."""

    @abstractmethod
    def unwrap_secret(self, value: Any, path: str) -> Any:
        """Return the text of a secret."""

    @abstractmethod
    def wrap_map(self, entries: dict[Any, Any]) -> Any:
        """Wrap the keys and values of a map."""

    @abstractmethod
    def unwrap_map(self, value: Any, path: str) -> Iterable[tuple[Any, Any, str]]:
        """Return the keys and values of a map, with the path of each entry."""

    @abstractmethod
    def encode_error(self, error: ApiError) -> Any:
        """Encode a standard error."""

    @abstractmethod
    def decode_error(self, value: Any, path: str) -> ApiError:
        """Decode a standard error."""
