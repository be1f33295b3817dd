"""The structures match the official SDK's, field by field."""

from collections.abc import Mapping
from typing import Any

import pytest

from openvcha.api.errors import ErrorType
from openvcha.api.structures import BY_VAPI_NAME
from openvcha.api.types import (
    Enumeration,
    EnumType,
    IdType,
    ListType,
    MapType,
    OptionalType,
    SetType,
    StructType,
    Structure,
    Type,
    Union,
    descriptor,
)

PLAIN = {
    "StringType",
    "IntegerType",
    "DoubleType",
    "BooleanType",
    "SecretType",
    "DateTimeType",
    "OpaqueType",
    "AnyErrorType",
    "VoidType",
}

OF_THE_SDK = sorted(name for name in BY_VAPI_NAME if not name.startswith("org.openvcha."))

# Modules whose structures and enumerations must all exist in ours too.
COMPLETE = (
    "com.vmware.vcenter.vcha_client",
    "com.vmware.vcenter.vcha.cluster_client",
    "com.vmware.cis_client",
    "com.vmware.cis.task_client",
)

# Never on the wire: the part of the task's info that several kinds of tasks share.
ABSTRACT = {"com.vmware.cis.task.common_info"}

INVENTORY = (
    "datacenter",
    "cluster",
    "folder",
    "host",
    "resource_pool",
    "network",
    "datastore",
    "VM",
)


def theirs(type_: Any) -> Any:
    """Return a type of the SDK as nested tuples."""
    kind = type(type_).__name__
    match kind:
        case "ReferenceType":
            return theirs(type_.resolved_type)
        case "StructType" | "EnumType":
            return kind, type_.name
        case "OptionalType" | "ListType" | "SetType":
            return kind, theirs(type_.element_type)
        case "MapType":
            return kind, theirs(type_.key_type), theirs(type_.value_type)
    assert kind in PLAIN | {"IdType"}, kind
    return (kind,)


def ours(type_: Type) -> Any:
    """Return a type of our own as nested tuples."""
    kind = type(type_).__name__
    match type_:
        case StructType() | EnumType():
            return kind, type_.name
        case OptionalType(element) | ListType(element) | SetType(element):
            return kind, ours(element)
        case MapType(key, value):
            return kind, ours(key), ours(value)
    assert kind in PLAIN | {"IdType"}, kind
    return (kind,)


def enumerations() -> Mapping[str, type[Enumeration]]:
    """Return the SDK's enumerations."""
    found = {cls.vapi: cls for cls in Enumeration.__subclasses__()}
    return {name: cls for name, cls in found.items() if not name.startswith("org.openvcha.")}


@pytest.mark.parametrize("name", OF_THE_SDK)
def test_fields_are_those_of_the_sdk(name: str, sdk_classes: Mapping[str, Any]) -> None:
    """Each structure has the SDK's fields: names, order, types, optionality, lists and sets."""
    binding = sdk_classes[name].get_binding_type()
    expected = [(field, theirs(binding.get_field(field))) for field in binding.get_field_names()]
    found = [(field.name, ours(field.type)) for field in StructType(BY_VAPI_NAME[name]).fields]
    assert found == expected


@pytest.mark.parametrize("name", OF_THE_SDK)
def test_identifiers_are_those_of_the_sdk(name: str, sdk_classes: Mapping[str, Any]) -> None:
    """Where the SDK names an identifier's resource type, ours is the same."""
    binding = sdk_classes[name].get_binding_type()
    for field in StructType(BY_VAPI_NAME[name]).fields:
        resource = getattr(binding.get_field(field.name), "resource_types", None)
        if resource:
            assert field.type == IdType(resource), field.name


@pytest.mark.parametrize("name", OF_THE_SDK)
def test_unions_are_those_of_the_sdk(name: str, sdk_classes: Mapping[str, Any]) -> None:
    """Each discriminant value requires the same fields as in the SDK."""
    validators = getattr(sdk_classes[name], "_validator_list", None) or []
    expected = [
        (validator._discriminant_name, {case: dict(names) for case, names in cases.items()})
        for validator in validators
        for cases in [validator._case_map]
        if type(validator).__name__ == "UnionValidator"
    ]
    union = BY_VAPI_NAME[name].union
    assert ([] if union is None else [as_plain(union)]) == expected


def test_the_sdk_has_unions(sdk_classes: Mapping[str, Any]) -> None:
    """The comparison of unions is not vacuous."""
    assert (
        sum(bool(getattr(sdk_classes[name], "_validator_list", None)) for name in OF_THE_SDK) == 4
    )


def as_plain(union: Union) -> Any:
    return union.discriminant, {case: dict(names) for case, names in union.cases.items()}


@pytest.mark.parametrize("name", sorted(enumerations()))
def test_values_are_those_of_the_sdk(name: str, sdk_classes: Mapping[str, Any]) -> None:
    """Each enumeration has the SDK's values."""
    values = {str(value) for key, value in vars(sdk_classes[name]).items() if key.isupper()}
    assert set(EnumType(enumerations()[name]).values) == values
    assert values


@pytest.mark.parametrize("module", COMPLETE)
def test_nothing_is_missing(module: str, sdk_names: Mapping[str, frozenset[str]]) -> None:
    """Every structure and enumeration of VCHA, tasks and sessions is there."""
    here = set(BY_VAPI_NAME) | set(enumerations())
    assert sdk_names[module]
    assert sdk_names[module] - ABSTRACT <= here


@pytest.mark.parametrize("kind", INVENTORY)
def test_inventory_is_there(kind: str) -> None:
    """Each of the eight lists has its summary and its filter."""
    assert f"com.vmware.vcenter.{kind}.summary" in BY_VAPI_NAME
    assert f"com.vmware.vcenter.{kind}.filter_spec" in BY_VAPI_NAME


def test_errors_are_those_of_the_sdk(sdk_classes: Mapping[str, Any]) -> None:
    """Every error type has the SDK structure of the same name."""
    names = {error.structure for error in ErrorType}
    assert names <= set(sdk_classes)
    expected = {
        name
        for name, cls in sdk_classes.items()
        if type(cls.get_binding_type()).__name__ == "ErrorType"
    }
    assert names == expected
    assert len(names) == 25


def test_a_type_outside_the_model_is_refused() -> None:
    """A type that the protocols cannot carry is not silently taken for another."""
    for tp in (bytes, object, list[int], dict, int | str):
        with pytest.raises((TypeError, ValueError)):
            descriptor(tp)


def test_structures_are_frozen() -> None:
    """All structures behave like the base: immutable, unset fields omitted."""
    for cls in Structure.__subclasses__():
        assert cls.__struct_config__.frozen
        assert cls.__struct_config__.omit_defaults
