"""OpenAPI 3.0 schemas of the contract's types."""

from collections.abc import Iterable
from typing import Any

from openvcha.api.errors import ErrorType
from openvcha.api.structures import LocalizableMessage
from openvcha.api.types import (
    AnyErrorType,
    BooleanType,
    DateTimeType,
    DoubleType,
    EnumType,
    IdType,
    IntegerType,
    ListType,
    MapType,
    OpaqueType,
    OptionalType,
    SecretType,
    SetType,
    StringType,
    StructType,
    Type,
    descriptor,
)
from openvcha.api_server.openapi.constraints import INTEGER, cases, constrained

ERROR = "Vapi.Std.Errors.Error"

_PLAIN: dict[type[Type], dict[str, Any]] = {
    StringType: {"type": "string"},
    IntegerType: {"type": "integer", "format": "int64", **INTEGER},
    DoubleType: {"type": "number", "format": "double"},
    BooleanType: {"type": "boolean"},
    SecretType: {"type": "string", "format": "password"},
    DateTimeType: {"type": "string", "format": "date-time"},
    OpaqueType: {},
}


def name(vapi: str) -> str:
    """Return a schema's name as in the official document: Vcenter.Vcha.Cluster.NodeInfo."""
    pieces = vapi.removeprefix("com.vmware.").split(".")
    return ".".join(
        "".join(word[:1].upper() + word[1:] for word in piece.split("_")) for piece in pieces
    )


def reference(schema_name: str) -> dict[str, Any]:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{schema_name}"}


def schema(type_: Type) -> dict[str, Any]:
    """Return the schema of a type; structures and enumerations by reference."""
    match type_:
        case StructType() | EnumType():
            return reference(name(type_.name))
        case AnyErrorType():
            return reference(ERROR)
        case IdType(resource):
            return {"type": "string", "description": f"Identifies a {resource or 'resource'}."}
        case OptionalType(element):
            return schema(element)
        case ListType() | SetType() | MapType():
            return _collection(type_)
        case _:
            return dict(_PLAIN[type(type_)])


def _collection(type_: ListType | SetType | MapType) -> dict[str, Any]:
    match type_:
        case ListType(element):
            return {"type": "array", "items": schema(element)}
        case SetType(element):
            return {"type": "array", "uniqueItems": True, "items": schema(element)}
        case MapType(_, value):
            return {"type": "object", "additionalProperties": schema(value)}


def object_of(fields: Iterable[tuple[str, Type]]) -> dict[str, Any]:
    """Return an object's schema; fields that are not optional are required, others refused."""
    known = list(fields)
    required = [each for each, type_ in known if not isinstance(type_, OptionalType)]
    described: dict[str, Any] = {
        "type": "object",
        "properties": {each: schema(type_) for each, type_ in known},
        "additionalProperties": False,
    }
    if required:
        described["required"] = required
    return described


def error() -> dict[str, Any]:
    """Return the schema of every standard error."""
    return {
        "type": "object",
        "description": "A standard error; the first message is the caller's view.",
        "required": ["error_type", "messages"],
        "properties": {
            "error_type": schema(descriptor(ErrorType)),
            "messages": {"type": "array", "items": schema(descriptor(LocalizableMessage))},
            "data": {"type": "object", "description": "More, for programs."},
            "challenge": {"type": "string", "description": "How to authenticate."},
        },
    }


def collect(type_: Type, components: dict[str, Any]) -> None:
    """Add the structures and enumerations that a type uses to ``components``."""
    match type_:
        case OptionalType(element) | ListType(element) | SetType(element):
            collect(element, components)
        case MapType(key, value):
            collect(key, components)
            collect(value, components)
        case EnumType() if name(type_.name) not in components:
            components[name(type_.name)] = {"type": "string", "enum": list(type_.values)}
        case StructType() if name(type_.name) not in components:
            fields = [(field.name, field.type) for field in type_.fields]
            described = constrained(type_.name, object_of(fields))
            if type_.union is not None:
                described["oneOf"] = cases(type_.union)
            components[name(type_.name)] = described
            for _, inner in fields:
                collect(inner, components)
