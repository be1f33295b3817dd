"""Decoders of composite types; a wire format defines how structures and the like are wrapped."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from openvcha.api.codec.faults import at, missing, unexpected, wrong, wrong_type
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


@dataclass(frozen=True)
class Style(ABC):
    """How a protocol wraps values, for decoding."""

    @abstractmethod
    def unwrap_structure(self, name: str, value: Any, path: str) -> dict[str, Any]:
        """Return the fields of a structure of this name."""

    @abstractmethod
    def unwrap_optional(self, value: Any, path: str) -> Any:
        """Return the value of an optional; None when it is unset."""

    @abstractmethod
    def unwrap_secret(self, value: Any, path: str) -> Any:
        """Return the text of a secret."""

    @abstractmethod
    def entries(self, value: Any, path: str) -> Iterable[tuple[Any, Any, str]]:
        """Return the keys and values of a map, with the path of each entry."""

    @abstractmethod
    def error(self, value: Any, path: str) -> Any:
        """Decode a standard error."""


@cache
def decoder(style: Style, type_: Type) -> Decode:
    """Return the function that decodes values of this type."""
    return _BUILDERS[type(type_)](style, type_)


@dataclass(frozen=True)
class Slot:
    """The attribute that a field's value is assigned to, and how it is decoded."""

    attribute: str
    decode: Decode
    optional: bool


def slots(style: Style, fields: Iterable[tuple[str, str, Type]]) -> Mapping[str, Slot]:
    """Return the slots, by wire name, of fields given as (wire name, attribute, type)."""
    return {
        name: Slot(attribute, decoder(style, type_), isinstance(type_, OptionalType))
        for name, attribute, type_ in fields
    }


def decode_fields(
    places: Mapping[str, Slot], structure: str, values: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Decode the fields of a structure; return the values by attribute, without the unset ones.

    Raises ApiError UNEXPECTED_INPUT or INVALID_ARGUMENT with the path of the field.
    """
    decoded = {}
    for name, value in values.items():
        slot = places.get(name)
        if slot is None:
            raise unexpected(at(path, name), structure)
        if value is not None:
            decoded[slot.attribute] = slot.decode(value, at(path, name))
    for name, slot in places.items():
        if not slot.optional and slot.attribute not in decoded:
            raise missing(at(path, name))
    return decoded


def _structure(style: Style, cls: type[Structure]) -> Decode:
    @cache
    def places() -> Mapping[str, Slot]:
        # Looked up at the first use, as a structure may contain itself.
        return slots(style, ((field.name, field.attribute, field.type) for field in fields(cls)))

    def decode(value: Any, path: str) -> Structure:
        inner = style.unwrap_structure(cls.vapi, value, path)
        decoded = decode_fields(places(), cls.vapi, inner, path)
        if cls.union is not None:
            _check_union(cls.union, decoded, path)
        return cls(**decoded)

    return decode


def _check_union(union: Union, decoded: Mapping[str, Any], path: str) -> None:
    case = decoded[union.discriminant]
    chosen = union.cases[case]
    for name, required in chosen.items():
        if required and decoded.get(name) is None:
            raise wrong("decode.union.missing", at(path, name), union.discriminant, case)
    for names in union.cases.values():
        for name in names:
            if name not in chosen and decoded.get(name) is not None:
                raise wrong("decode.union.extra", at(path, name), union.discriminant, case)


def _optional(style: Style, type_: Type) -> Decode:
    element = decoder(style, type_)
    nothing = _nothing(type_)
    empty = _EMPTY.get(type(type_), ("",))

    def decode(value: Any, path: str) -> Any:
        inner = style.unwrap_optional(value, path)
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
"""The values that mean "unset" for an optional, by type; for all other types the empty string."""


def _nothing(type_: Type) -> Structure | None:
    """Return the structure with no field set, if valid: as an optional it counts as unset."""
    if isinstance(type_, StructType) and all(field.optional for field in type_.fields):
        return type_.cls()
    return None


def _sequence(make: type[tuple[Any, ...]] | type[frozenset[Any]], element: Decode) -> Decode:
    def decode(value: Any, path: str) -> Any:
        numbered = enumerate(items(value, path))
        found = make(element(item, f"{path}[{index}]") for index, item in numbered)
        if len(found) < len(value):
            raise wrong("decode.duplicate", f"{path}[{_repeated(value)}]")
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


def _map(style: Style, key: Decode, element: Decode) -> Decode:
    def decode(value: Any, path: str) -> dict[Any, Any]:
        decoded = {}
        for name, item, place in style.entries(value, path):
            entry = key(name, place)
            if entry in decoded:
                raise wrong("decode.duplicate", place)
            decoded[entry] = element(item, place)
        return decoded

    return decode


def _void(value: Any, path: str) -> None:
    if value is not None:
        raise wrong_type(path, "null", value)


def _secret(style: Style) -> Decode:
    return lambda value, path: Secret(string(style.unwrap_secret(value, path), path))


def _scalar(_style: Style, type_: Type) -> Decode:
    return SCALARS[type(type_)]


_BUILDERS: Mapping[type[Type], Callable[[Style, Any], Decode]] = {
    **dict.fromkeys(SCALARS, _scalar),
    IdType: lambda _style, _type: string,
    EnumType: lambda _style, type_: enumeration(type_.cls),
    SecretType: lambda style, _type: _secret(style),
    StructType: lambda style, type_: _structure(style, type_.cls),
    OptionalType: lambda style, type_: _optional(style, type_.element),
    ListType: lambda style, type_: _sequence(tuple, decoder(style, type_.element)),
    SetType: lambda style, type_: _sequence(frozenset, decoder(style, type_.element)),
    MapType: lambda style, type_: _map(
        style, decoder(style, type_.key), decoder(style, type_.value)
    ),
    OpaqueType: lambda _style, _type: lambda value, _path: Opaque(None, value),
    AnyErrorType: lambda style, _type: style.error,
    VoidType: lambda _style, _type: _void,
}
