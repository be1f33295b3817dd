"""The type model: the base classes of structures, and a tree of types to walk.

Structures are `Structure` classes, enumerations are `Enumeration` classes, identifiers are
`Annotated[str, Id("Folder")]`, optional fields are `X | None`.
"""

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret


@dataclass(frozen=True)
class Id:
    """A marker of strings that identify a resource of this type."""

    resource: str


@dataclass(frozen=True)
class Union:
    """The fields that each value of the discriminant allows: case -> field -> required."""

    discriminant: str
    cases: Mapping[str, Mapping[str, bool]]


class _StructureMeta(msgspec.StructMeta):
    """A metaclass that makes every subclass of Structure keyword-only and frozen, too."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> "_StructureMeta":
        options |= {"kw_only": True, "frozen": True, "omit_defaults": True}
        return super().__new__(cls, name, bases, namespace, **options)


@typing.dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,)
)
class Structure(msgspec.Struct, metaclass=_StructureMeta, kw_only=True, frozen=True):
    """The base of all structures; `vapi` is the full vAPI name."""

    vapi: ClassVar[str]
    union: ClassVar[Union | None] = None


class Enumeration(enum.StrEnum):
    """The base of all enumerations; `vapi` is the full vAPI name."""

    vapi: ClassVar[str]

    def __init_subclass__(cls, *, vapi: str) -> None:
        super().__init_subclass__()
        cls.vapi = vapi


@dataclass(frozen=True)
class Opaque:
    """A value of any type. `type` None: `value` is the raw JSON as received or sent."""

    type: Any
    value: Any


class AnyError(Exception):
    """Any standard error, as the value of a field; `errors.ApiError` is the only subclass."""


class Type:
    """A node of the tree of types."""


@dataclass(frozen=True)
class StringType(Type):
    """A string."""


@dataclass(frozen=True)
class IntegerType(Type):
    """A signed 64-bit integer."""


@dataclass(frozen=True)
class DoubleType(Type):
    """A floating-point number; never infinite or NaN."""


@dataclass(frozen=True)
class BooleanType(Type):
    """A boolean."""


@dataclass(frozen=True)
class SecretType(Type):
    """A string that must not be shown."""


@dataclass(frozen=True)
class DateTimeType(Type):
    """A point in time, always with a zone; in UTC on the wire."""


@dataclass(frozen=True)
class VoidType(Type):
    """The type of an operation without a result."""


@dataclass(frozen=True)
class OpaqueType(Type):
    """A value of any type."""


@dataclass(frozen=True)
class AnyErrorType(Type):
    """Any standard error."""


@dataclass(frozen=True)
class IdType(Type):
    """A string that identifies a resource."""

    resource: str


@dataclass(frozen=True)
class EnumType(Type):
    """An enumeration."""

    cls: type[Enumeration]

    @property
    def name(self) -> str:
        """Return the full vAPI name."""
        return self.cls.vapi

    @property
    def values(self) -> tuple[str, ...]:
        """Return the values in the order of their declaration."""
        return tuple(member.value for member in self.cls)


@dataclass(frozen=True)
class Field:
    """One field: `name` on the wire, `attribute` in Python."""

    name: str
    attribute: str
    type: Type

    @property
    def optional(self) -> bool:
        """Return whether the field may be unset."""
        return isinstance(self.type, OptionalType)


@dataclass(frozen=True)
class StructType(Type):
    """A structure; its fields are looked up lazily, as it may contain itself."""

    cls: type[Structure]

    @property
    def name(self) -> str:
        """Return the full vAPI name."""
        return self.cls.vapi

    @property
    def fields(self) -> tuple[Field, ...]:
        """Return the fields in the order of their declaration."""
        return fields(self.cls)

    @property
    def union(self) -> Union | None:
        """Return the fields that each value of the discriminant allows; None without one."""
        return self.cls.union


@dataclass(frozen=True)
class OptionalType(Type):
    """A value that may be unset."""

    element: Type


@dataclass(frozen=True)
class ListType(Type):
    """A list; in Python a tuple."""

    element: Type


@dataclass(frozen=True)
class SetType(Type):
    """A set, encoded as a list without duplicates."""

    element: Type


@dataclass(frozen=True)
class MapType(Type):
    """A map."""

    key: Type
    value: Type


_SCALARS: Mapping[Any, Type] = {
    str: StringType(),
    int: IntegerType(),
    float: DoubleType(),
    bool: BooleanType(),
    Secret: SecretType(),
    datetime: DateTimeType(),
    None: VoidType(),
    types.NoneType: VoidType(),
    Opaque: OpaqueType(),
    AnyError: AnyErrorType(),
}


@cache
def fields(cls: type[Structure]) -> tuple[Field, ...]:
    """Return the fields of a structure in the order of their declaration."""
    return tuple(
        Field(field.encode_name, field.name, descriptor(field.type))
        for field in msgspec.structs.fields(cls)
    )


@cache
def descriptor(tp: Any) -> Type:
    """Return the type tree of a Python type. Raises TypeError for one outside the model."""
    if tp in _SCALARS:
        return _SCALARS[tp]
    if isinstance(tp, type) and not isinstance(tp, types.GenericAlias):
        return _class(tp)
    return _composed(tp, typing.get_origin(tp), typing.get_args(tp))


def _class(tp: type) -> Type:
    if issubclass(tp, Structure):
        return StructType(tp)
    if issubclass(tp, Enumeration):
        return EnumType(tp)
    raise TypeError(f"{tp!r} is not in the type model")


def _composed(tp: Any, origin: Any, arguments: tuple[Any, ...]) -> Type:
    if origin is Annotated and isinstance(arguments[1], Id):
        return IdType(arguments[1].resource)
    if origin in (types.UnionType, typing.Union) and types.NoneType in arguments:
        (element,) = (argument for argument in arguments if argument is not types.NoneType)
        return OptionalType(descriptor(element))
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return ListType(descriptor(arguments[0]))
    if origin is frozenset:
        return SetType(descriptor(arguments[0]))
    if origin in (dict, Mapping):
        return MapType(descriptor(arguments[0]), descriptor(arguments[1]))
    raise TypeError(f"{tp!r} is not in the type model")


prepare(__name__)
