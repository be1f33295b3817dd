"""Encoders of values; a wire format defines how structures and the like are wrapped."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures.std import LocalizableMessage
from openvcha.api.types import (
    AnyErrorType,
    DateTimeType,
    Enumeration,
    EnumType,
    ListType,
    MapType,
    Opaque,
    OpaqueType,
    OptionalType,
    SecretType,
    SetType,
    StructType,
    Structure,
    Type,
    descriptor,
    fields,
)

#: Takes a Python value; returns what a JSON encoder takes.
Encode = Callable[[Any], Any]

_WITH_CHALLENGE = frozenset({ErrorType.UNAUTHENTICATED, ErrorType.UNAUTHORIZED})
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@dataclass(frozen=True)
class WireEncoder(ABC):
    """How a protocol wraps values that are already encoded."""

    @abstractmethod
    def structure(self, name: str, values: dict[str, Any]) -> Any:
        """Wrap the encoded fields of a structure of this name."""

    @abstractmethod
    def optional(self, value: Any) -> Any:
        """Wrap an optional value; None is unset."""

    @abstractmethod
    def secret(self, text: str) -> Any:
        """Wrap the text of a secret."""

    @abstractmethod
    def entries(self, entries: dict[Any, Any]) -> Any:
        """Wrap the encoded keys and values of a map."""

    @abstractmethod
    def error(self, error: ApiError) -> Any:
        """Encode a standard error."""

    def encode(self, tp: Any, value: Any) -> Any:
        """Encode a value of the Python type `tp`."""
        return encoder(self, descriptor(tp))(value)

    def messages(self, error: ApiError) -> list[Any]:
        """Encode the messages of an error."""
        return [self.encode(LocalizableMessage, message) for message in error.messages]

    def data(self, error: ApiError) -> Any:
        """Encode the data of an error; None when it has none."""
        return None if error.data is None else self.encode(type(error.data), error.data)


@dataclass(frozen=True)
class RestEncoder(WireEncoder):
    """Plain JSON; unset fields are left out."""

    def structure(self, name: str, values: dict[str, Any]) -> Any:  # noqa: ARG002 (plain JSON has no names)
        return {key: value for key, value in values.items() if value is not None}

    def optional(self, value: Any) -> Any:
        return value

    def secret(self, text: str) -> Any:
        return text

    def entries(self, entries: dict[Any, Any]) -> Any:
        return entries

    def error(self, error: ApiError) -> Any:
        body = {"error_type": error.error_type.value, "messages": self.messages(error)}
        if error.data is not None:
            body["data"] = self.data(error)
        if error.challenge is not None:
            body["challenge"] = error.challenge
        return body


@dataclass(frozen=True)
class RedactingEncoder(RestEncoder):
    """Plain JSON for storage: secrets are left out."""

    def secret(self, text: str) -> Any:  # noqa: ARG002 (that is the point)
        return None


@dataclass(frozen=True)
class VapiEncoder(WireEncoder):
    """vAPI JSON-RPC: structures by name, optionals, secrets and errors in wrappers."""

    def structure(self, name: str, values: dict[str, Any]) -> Any:
        return {"STRUCTURE": {name: values}}

    def optional(self, value: Any) -> Any:
        return {"OPTIONAL": value}

    def secret(self, text: str) -> Any:
        return {"SECRET": text}

    def entries(self, entries: dict[Any, Any]) -> Any:
        return [
            self.structure("map-entry", {"key": key, "value": value})
            for key, value in entries.items()
        ]

    def error(self, error: ApiError) -> Any:
        values = {
            "messages": self.messages(error),
            "data": self.optional(self.data(error)),
            "error_type": self.optional(error.error_type.value),
        }
        if error.error_type in _WITH_CHALLENGE:
            values["challenge"] = self.optional(error.challenge)
        return {"ERROR": {error.error_type.structure: values}}


@cache
def encoder(wire: WireEncoder, type_: Type) -> Encode:
    """Return the function that encodes values of this type."""
    build = _BUILDERS.get(type(type_))
    return build(wire, type_) if build else _unchanged


def _structure(wire: WireEncoder, cls: type[Structure]) -> Encode:
    @cache
    def encoders() -> tuple[tuple[str, str, Encode], ...]:
        # Looked up at the first use, as a structure may contain itself.
        return tuple((each.name, each.attribute, encoder(wire, each.type)) for each in fields(cls))

    def encode(value: Structure) -> Any:
        values = {
            name: encode_field(getattr(value, attribute))
            for name, attribute, encode_field in encoders()
        }
        return wire.structure(cls.vapi, values)

    return encode


def _optional(wire: WireEncoder, element: Encode) -> Encode:
    return lambda value: wire.optional(None if value is None else element(value))


def _list(element: Encode) -> Encode:
    return lambda value: [element(item) for item in value]


def _set(element: Encode) -> Encode:
    # Sorted, so that equal values have equal texts.
    return lambda value: sorted(element(item) for item in value)


def _map(wire: WireEncoder, key: Encode, element: Encode) -> Encode:
    return lambda value: wire.entries({key(name): element(item) for name, item in value.items()})


def _enumeration(cls: type[Enumeration]) -> Encode:
    return lambda value: cls(value).value


def _opaque(wire: WireEncoder, value: Opaque) -> Any:
    return value.value if value.type is None else wire.encode(value.type, value.value)


def encode_time(value: datetime) -> str:
    """Format a time in UTC with milliseconds. Raises ValueError for a time without a zone.

    A time that overflows the calendar in UTC, as a foreign record may, becomes its first or last.
    """
    if value.tzinfo is None:
        raise ValueError("a time needs its zone")
    try:
        in_utc = value.astimezone(UTC)
    except OverflowError:
        in_utc = _EARLIEST if value.year == _EARLIEST.year else _LATEST
    text = in_utc.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _unchanged(value: Any) -> Any:
    return value


def _secret(wire: WireEncoder) -> Encode:
    return lambda value: wire.secret(value.reveal())


_BUILDERS: Mapping[type[Type], Callable[[WireEncoder, Any], Encode]] = {
    EnumType: lambda _wire, type_: _enumeration(type_.cls),
    DateTimeType: lambda _wire, _type: encode_time,
    SecretType: lambda wire, _type: _secret(wire),
    StructType: lambda wire, type_: _structure(wire, type_.cls),
    OptionalType: lambda wire, type_: _optional(wire, encoder(wire, type_.element)),
    ListType: lambda wire, type_: _list(encoder(wire, type_.element)),
    SetType: lambda wire, type_: _set(encoder(wire, type_.element)),
    MapType: lambda wire, type_: _map(wire, encoder(wire, type_.key), encoder(wire, type_.value)),
    OpaqueType: lambda wire, _type: lambda value: _opaque(wire, value),
    AnyErrorType: lambda wire, _type: wire.error,
}
