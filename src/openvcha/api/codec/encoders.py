"""Encoders of values; a wire format defines how structures and others are wrapped."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from openvcha.api.codec.interface import WireFormat
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

#: Takes a Python value; returns a value that a JSON encoder accepts.
Encode = Callable[[Any], Any]

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@cache
def encoder(wire: WireFormat, type_: Type) -> Encode:
    """Return the function that encodes values of this type."""
    build = _BUILDERS.get(type(type_))
    return build(wire, type_) if build else _unchanged


def encode_as(wire: WireFormat, tp: Any, value: Any) -> Any:
    """Encode a value of the Python type `tp`."""
    return encoder(wire, descriptor(tp))(value)


def _structure(wire: WireFormat, cls: type[Structure]) -> Encode:
    @cache
    def encoders() -> tuple[tuple[str, str, Encode], ...]:
        # Looked up at the first use, as a structure may contain itself.
        return tuple((each.name, each.attribute, encoder(wire, each.type)) for each in fields(cls))

    def encode(value: Structure) -> Any:
        values = {
            name: encode_field(getattr(value, attribute))
            for name, attribute, encode_field in encoders()
        }
        return wire.wrap_structure(cls.vapi, values)

    return encode


def _optional(wire: WireFormat, element: Encode) -> Encode:
    return lambda value: wire.wrap_optional(None if value is None else element(value))


def _list(element: Encode) -> Encode:
    return lambda value: [element(item) for item in value]


def _set(element: Encode) -> Encode:
    # Sorted, so that equal values have equal texts.
    return lambda value: sorted(element(item) for item in value)


def _map(wire: WireFormat, key: Encode, element: Encode) -> Encode:
    return lambda value: wire.wrap_map({key(name): element(item) for name, item in value.items()})


def _enumeration(cls: type[Enumeration]) -> Encode:
    return lambda value: cls(value).value


def _opaque(wire: WireFormat, value: Opaque) -> Any:
    return value.value if value.type is None else encode_as(wire, value.type, value.value)


def encode_time(value: datetime) -> str:
    """Format a time in UTC with milliseconds. Raises ValueError for a time without a zone.

    A time whose UTC value overflows the calendar, as in a foreign record, becomes its first or
    last instant.
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


def _secret(wire: WireFormat) -> Encode:
    return lambda value: wire.wrap_secret(value.reveal())


_BUILDERS: Mapping[type[Type], Callable[[WireFormat, Any], Encode]] = {
    EnumType: lambda _wire, type_: _enumeration(type_.cls),
    DateTimeType: lambda _wire, _type: encode_time,
    SecretType: lambda wire, _type: _secret(wire),
    StructType: lambda wire, type_: _structure(wire, type_.cls),
    OptionalType: lambda wire, type_: _optional(wire, encoder(wire, type_.element)),
    ListType: lambda wire, type_: _list(encoder(wire, type_.element)),
    SetType: lambda wire, type_: _set(encoder(wire, type_.element)),
    MapType: lambda wire, type_: _map(wire, encoder(wire, type_.key), encoder(wire, type_.value)),
    OpaqueType: lambda wire, _type: lambda value: _opaque(wire, value),
    AnyErrorType: lambda wire, _type: wire.encode_error,
}
