"""Whether a value matches a schema of the OpenAPI, according to a standard validator."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from openvcha.api.operations import Operation
from openvcha.api.types import (
    EnumType,
    IdType,
    ListType,
    MapType,
    OptionalType,
    SecretType,
    SetType,
    StringType,
    StructType,
    Type,
    descriptor,
)
from openvcha.api_server.openapi import document as openapi


def _bare(type_: Type) -> Type:
    return type_.element if isinstance(type_, OptionalType) else type_


def set_only(type_: Type, value: Any) -> Any:
    """Remove from a value each optional that is null, or empty for its type."""
    match _bare(type_):
        case StructType() as structure if isinstance(value, dict):
            types = {field.name: field.type for field in structure.fields}
            return fields_set(types, value)
        case ListType(element) | SetType(element) if isinstance(value, list):
            return [set_only(element, each) for each in value]
        case MapType(_, element) if isinstance(value, dict):
            return {name: set_only(element, each) for name, each in value.items()}
    return value


def fields_set(types: Mapping[str, Type], value: dict[str, Any]) -> dict[str, Any]:
    """Return only those fields of a value that are set."""
    left = {}
    for name, each in value.items():
        type_ = types.get(name)
        if isinstance(type_, OptionalType):
            made = set_only(type_, each)
            if each is None or is_empty(type_.element, each) or is_empty(type_.element, made):
                continue
            left[name] = made
        else:
            left[name] = each if type_ is None else set_only(type_, each)
    return left


def is_empty(type_: Type, value: Any) -> bool:
    """Return whether it is the empty value of this type. Numbers and booleans have none."""
    match type_:
        case StringType() | IdType() | SecretType() | EnumType():
            return bool(value == "")
        case ListType() | SetType():
            return bool(value == [])
        case StructType() | MapType():
            return bool(value == {})
    return False


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return openapi.document()


@cache
def validator(schema: str) -> Any:
    """Return a validator of a schema, given as JSON."""
    described = json.loads(schema) | {"components": document()["components"]}
    return jsonschema_rs.Draft4Validator(described)


def described(operation: Operation) -> dict[str, Any]:
    """Return an operation's description in the document."""
    found: dict[str, Any] = document()["paths"][openapi._key(operation)][operation.method.lower()]
    return found


def schema_takes(operation: Operation, body: Any) -> bool:
    """Return whether the schema of an operation's body accepts a value."""
    content = described(operation)["requestBody"]["content"]["application/json"]
    if operation.body_is_spec:
        value = set_only(descriptor(operation.body_parameters[0].type), body)
    else:
        types = {each.name: descriptor(each.type) for each in operation.body_parameters}
        value = fields_set(types, body) if isinstance(body, dict) else body
    return bool(validator(json.dumps(content["schema"])).is_valid(value))
