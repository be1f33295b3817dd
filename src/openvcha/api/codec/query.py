"""Decoder of the query parameters of a REST call."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from openvcha.api.codec.decoders import decoder
from openvcha.api.codec.faults import invalid_value, unexpected
from openvcha.api.codec.wire_formats import REST
from openvcha.api.operation import Operation
from openvcha.api.types import (
    BooleanType,
    IntegerType,
    OptionalType,
    SetType,
    StructType,
    Structure,
    Type,
    descriptor,
)

# These select the operation; old clients send `~action`.
_VERBS = frozenset({"action", "vmw-task", "~action"})

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


def decode_query(
    operation: Operation, query: Iterable[tuple[str, str]], wrapped: bool
) -> dict[str, Any]:
    """Return the query parameters by name.

    A name that occurs several times is a set. With `wrapped`, /rest's `filter.names.1` is
    accepted, too. Raises ApiError, which names the parameter.
    """
    prefixes = tuple(f"{each.name}." for each in operation.query_parameters) if wrapped else ()
    texts = _texts(query, prefixes)
    arguments = {}
    for parameter in operation.query_parameters:
        structure = _structure(descriptor(parameter.type))
        arguments[parameter.name] = _decode(structure, texts)
    for name in texts:
        raise unexpected(name, "the query")
    return arguments


def _texts(query: Iterable[tuple[str, str]], prefixes: tuple[str, ...]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for name, text in query:
        if name in _VERBS:
            continue
        plain = name
        if prefixes and name.startswith(prefixes):
            plain = re.sub(r"\.\d+$", "", name.split(".", 1)[1])
        texts.setdefault(plain, []).append(text)
    return texts


def _structure(type_: Type) -> StructType:
    element = type_.element if isinstance(type_, OptionalType) else type_
    if not isinstance(element, StructType):
        raise TypeError("only a structure's fields can travel in the query")
    return element


def _decode(type_: StructType, texts: dict[str, list[str]]) -> Structure | None:
    values = {
        field.name: _value(field.type, texts.pop(field.name), field.name)
        for field in type_.fields
        if field.name in texts
    }
    decoded: Structure | None = decoder(REST, type_)(values, "") if values else None
    return decoded


def _value(type_: Type, texts: list[str], name: str) -> Any:
    """Convert the texts of one name to the JSON value that the type expects."""
    element = type_.element if isinstance(type_, OptionalType) else type_
    if isinstance(element, SetType):
        return [] if texts == [""] else texts
    if len(texts) > 1:
        raise invalid_value("decode.query.repeated", name)
    if isinstance(element, BooleanType):
        return _BOOLEANS.get(texts[0].lower(), texts[0])
    if isinstance(element, IntegerType) and _INTEGER.fullmatch(texts[0]):
        return int(texts[0])
    return texts[0]
