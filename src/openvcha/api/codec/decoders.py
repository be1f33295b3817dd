"""Decoders of composite types; a wire format defines how structures and others are wrapped."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from openvcha.api.codec.faults import invalid_value, join_path, missing, unexpected, wrong_type
from openvcha.api.codec.interface import WireFormat
from openvcha.api.codec.scalars import SCALARS, Decode, enumeration, string
from openvcha.api.secret import Secret
from openvcha.api.types import (
    AnyErrorType,
    BooleanType,
    DoubleType,
    EnumType,
    IdType,
    IntegerType,
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
    Union,
    VoidType,
    fields,
)


@cache
def decoder(wire: WireFormat, type_: Type) -> Decode:
    """Return the function that decodes values of this type."""
    return _BUILDERS[type(type_)](wire, type_)


@dataclass(frozen=True)
class FieldDecoder:
    """The attribute that a field's value is assigned to, and how it is decoded."""

    attribute: str
    decode: Decode
    optional: bool


def field_decoders(
    wire: WireFormat, fields: Iterable[tuple[str, str, Type]]
) -> Mapping[str, FieldDecoder]:
    """Return the slots, by wire name, of fields given as (wire name, attribute, type)."""
    return {
        name: FieldDecoder(attribute, decoder(wire, type_), isinstance(type_, OptionalType))
        for name, attribute, type_ in fields
    }


def decode_fields(
    known: Mapping[str, FieldDecoder], structure: str, values: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Decode the fields of a structure; return the values by attribute, without the unset ones.

    Raises ApiError UNEXPECTED_INPUT or INVALID_ARGUMENT with the path of the field.
    """
    decoded = {}
    for name, value in values.items():
        field = known.get(name)
        if field is None:
            raise unexpected(join_path(path, name), structure)
        if value is not None:
            decoded[field.attribute] = field.decode(value, join_path(path, name))
    for name, field in known.items():
        if not field.optional and field.attribute not in decoded:
            raise missing(join_path(path, name))
    return decoded


def _structure(wire: WireFormat, cls: type[Structure]) -> Decode:
    @cache
    def known() -> Mapping[str, FieldDecoder]:
        # Looked up at the first use, as a structure may contain itself.
        return field_decoders(
            wire, ((field.name, field.attribute, field.type) for field in fields(cls))
        )

    def decode(value: Any, path: str) -> Structure:
        inner = wire.unwrap_structure(cls.vapi, value, path)
        decoded = decode_fields(known(), cls.vapi, inner, path)
        if cls.union is not None:
            _check_union(cls.union, decoded, path)
        return cls(**decoded)

    return decode


def _check_union(union: Union, decoded: Mapping[str, Any], path: str) -> None:
    case = decoded[union.discriminant]
    chosen = union.cases[case]
    for name, required in chosen.items():
        if required and decoded.get(name) is None:
            raise invalid_value(
                "decode.union.missing", join_path(path, name), union.discriminant, case
            )
    for names in union.cases.values():
        for name in names:
            if name not in chosen and decoded.get(name) is not None:
                raise invalid_value(
                    "decode.union.extra", join_path(path, name), union.discriminant, case
                )


def _optional(wire: WireFormat, type_: Type) -> Decode:
    element = decoder(wire, type_)
    nothing = _nothing(type_)
    empty = _EMPTY.get(type(type_), ("",))

    def decode(value: Any, path: str) -> Any:
        inner = wire.unwrap_optional(value, path)
        if inner is None or inner in empty:
            return None
        decoded = element(inner, path)
        return None if decoded == nothing else decoded

    return decode


_EMPTY: Mapping[type[Type], tuple[Any, ...]] = {
    BooleanType: (),
    IntegerType: (),
    DoubleType: (),
    ListType: ([],),
    SetType: ([],),
    MapType: ({}, []),
    StructType: ({},),
    OpaqueType: ("", [], {}),
    AnyErrorType: ({},),
}
"""The values that mean "unset" for an optional, by type; for other types, the empty string."""


def _nothing(type_: Type) -> Structure | None:
    """Return the structure without any field, if valid: as an optional it counts as unset."""
    if isinstance(type_, StructType) and all(field.optional for field in type_.fields):
        return type_.cls()
    return None


def _sequence(make: type[tuple[Any, ...]] | type[frozenset[Any]], element: Decode) -> Decode:
    def decode(value: Any, path: str) -> Any:
        numbered = enumerate(items(value, path))
        found = make(element(item, f"{path}[{index}]") for index, item in numbered)
        if len(found) < len(value):
            raise invalid_value("decode.duplicate", f"{path}[{_repeated(value)}]")
        return found

    return decode


def _repeated(value: list[Any]) -> int:
    """Return the index of the first item that occurred before."""
    seen = set[str]()
    for index, item in enumerate(value):
        if (text := repr(item)) in seen:
            return index
        seen.add(text)
    return len(value) - 1


def items(value: Any, path: str) -> list[Any]:
    """Return the items of a JSON list. Raises ApiError INVALID_ARGUMENT for any other value."""
    if type(value) is not list:
        raise wrong_type(path, "a list", value)
    return value


def _map(wire: WireFormat, key: Decode, element: Decode) -> Decode:
    def decode(value: Any, path: str) -> dict[Any, Any]:
        decoded = {}
        for name, item, place in wire.unwrap_map(value, path):
            entry = key(name, place)
            if entry in decoded:
                raise invalid_value("decode.duplicate", place)
            decoded[entry] = element(item, place)
        return decoded

    return decode


def _void(value: Any, path: str) -> None:
    if value is not None:
        raise wrong_type(path, "null", value)


def _secret(wire: WireFormat) -> Decode:
    return lambda value, path: Secret(string(wire.unwrap_secret(value, path), path))


def _scalar(_wire: WireFormat, type_: Type) -> Decode:
    return SCALARS[type(type_)]


_BUILDERS: Mapping[type[Type], Callable[[WireFormat, Any], Decode]] = {
    **dict.fromkeys(SCALARS, _scalar),
    IdType: lambda _wire, _type: string,
    EnumType: lambda _wire, type_: enumeration(type_.cls),
    SecretType: lambda wire, _type: _secret(wire),
    StructType: lambda wire, type_: _structure(wire, type_.cls),
    OptionalType: lambda wire, type_: _optional(wire, type_.element),
    ListType: lambda wire, type_: _sequence(tuple, decoder(wire, type_.element)),
    SetType: lambda wire, type_: _sequence(frozenset, decoder(wire, type_.element)),
    MapType: lambda wire, type_: _map(wire, decoder(wire, type_.key), decoder(wire, type_.value)),
    OpaqueType: lambda _wire, _type: lambda value, _path: Opaque(None, value),
    AnyErrorType: lambda wire, _type: wire.decode_error,
    VoidType: lambda _wire, _type: _void,
}
