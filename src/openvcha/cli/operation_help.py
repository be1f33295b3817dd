"""Descriptions of the API's operations: names, parameters, types."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openvcha.api.operations import OPERATIONS, Operation, Parameter
from openvcha.api.types import (
    BooleanType,
    DateTimeType,
    DoubleType,
    EnumType,
    Field,
    IdType,
    IntegerType,
    ListType,
    MapType,
    OptionalType,
    SecretType,
    SetType,
    StructType,
    Type,
    descriptor,
)

_PREFIXES = ("com.vmware.vcenter.vcha.", "com.vmware.", "org.openvcha.")
_WORDS: dict[type[Type], str] = {
    BooleanType: "true or false",
    DateTimeType: "time (2026-01-31T12:00:00Z)",
    DoubleType: "number",
    IntegerType: "integer",
    SecretType: "secret",
}


@dataclass(frozen=True)
class Leaf:
    """A scalar or list argument: ``name`` is its dotted path."""

    name: str
    type: Type
    required: bool


def short_name(operation: Operation) -> str:
    """Return the short name of an operation: cluster.passive.redeploy."""
    prefix = next(p for p in _PREFIXES if operation.id.startswith(p))
    return operation.id.removeprefix(prefix)


def find_operations(text: str) -> list[Operation]:
    """Return the operations whose id is this name or ends with it."""
    wanted = text.casefold()
    exact = [op for op in OPERATIONS if wanted in (op.id.casefold(), short_name(op).casefold())]
    return exact or [op for op in OPERATIONS if op.id.casefold().endswith(f".{wanted}")]


def method_and_path(operation: Operation) -> str:
    """Return the method, and the path below /api."""
    verbs = [f"action={operation.action}"] if operation.action else []
    verbs += ["vmw-task=true"] if operation.task else []
    return f"{operation.method} {operation.path}" + ("?" + "&".join(verbs) if verbs else "")


def path_leaves(operation: Operation) -> list[Leaf]:
    """Return the parameters in the path."""
    return [Leaf(p.name, descriptor(p.type), required=True) for p in operation.path_parameters]


def query_leaves(operation: Operation) -> list[Leaf]:
    """Return the parameters in the query: the fields of their structures."""
    return [leaf for p in operation.query_parameters for leaf in _inside("", p.type)]


def body_leaves(operation: Operation) -> list[Leaf]:
    """Return the leaves of a body; with several parameters, prefix each by its parameter's name."""
    if operation.body_is_spec:
        return list(_inside("", operation.body_parameters[0].type))
    return [leaf for p in operation.body_parameters for leaf in _of(p)]


def describe_type(type_: Type) -> str:
    """Return a description of a type."""
    match type_:
        case OptionalType(element):
            found = describe_type(element)
        case EnumType():
            found = " | ".join(type_.values)
        case IdType(resource):
            found = f"id of a {resource.partition(':')[0].rsplit('.', 1)[-1]}"
        case ListType(element):
            found = f"list of {describe_type(element)}"
        case SetType(element):
            found = f"set of {describe_type(element)}"
        case MapType(key, value):
            found = f"map of {describe_type(key)} to {describe_type(value)}"
        case StructType():
            found = type_.name.rsplit(".", 1)[-1]
        case _:
            found = _WORDS.get(type(type_), "text")
    return found


def _of(parameter: Parameter) -> Iterator[Leaf]:
    type_ = descriptor(parameter.type)
    yield from _leaves(parameter.name, type_, required=True)


def _inside(prefix: str, python_type: Any) -> Iterator[Leaf]:
    type_ = _bare(descriptor(python_type))
    if not isinstance(type_, StructType):
        raise TypeError(f"{type_} has no fields")
    for field in type_.fields:
        yield from _field(prefix, field, required=True)


def _field(prefix: str, field: Field, *, required: bool) -> Iterator[Leaf]:
    yield from _leaves(f"{prefix}{field.name}", field.type, required=required)


def _leaves(name: str, type_: Type, *, required: bool) -> Iterator[Leaf]:
    """Yield the leaves of a structure; those of an optional one are not required."""
    needed = required and not isinstance(type_, OptionalType)
    bare = _bare(type_)
    if isinstance(bare, StructType):
        for field in bare.fields:
            yield from _field(f"{name}.", field, required=needed)
    else:
        yield Leaf(name, bare, needed)


def _bare(type_: Type) -> Type:
    return type_.element if isinstance(type_, OptionalType) else type_
