"""Every value survives encoding and decoding in both encodings, and the official SDK agrees."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vmware.vapi.bindings.converter import TypeConverter
from vmware.vapi.data.serializers.jsonrpc import JsonRpcDictToVapi, VAPIJsonEncoder

from openvcha.api.codec.decode import (
    decode_error_rest,
    decode_error_vapi,
    decode_rest,
    decode_vapi,
    parse_json,
)
from openvcha.api.codec.encode import (
    encode_error_rest,
    encode_error_vapi,
    encode_rest,
    encode_vapi,
    encode_without_secrets,
)
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    BY_VAPI_NAME,
    CertificateInfo,
    LocalizableMessage,
    PassiveRedeploySpec,
)
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
    Opaque,
    OpaqueType,
    OptionalType,
    SecretType,
    SetType,
    StringType,
    StructType,
    Structure,
    Type,
    descriptor,
)

DEPTH = 6


def values(type_: Type, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Return values of a type, none of them an empty optional: that is decoded as unset."""
    return MAKERS[type(type_)](type_, depth - 1)


def structures(type_: StructType, depth: int) -> st.SearchStrategy[Any]:
    if type_.union is None:
        return struct_of(type_, {}, depth)
    discriminant = type_.union.discriminant
    of_union = {name for names in type_.union.cases.values() for name in names}
    cases = []
    for case, names in type_.union.cases.items():
        fixed: dict[str, bool | str] = {name: False for name in of_union if name not in names}
        fixed |= {name: True for name, required in names.items() if required}
        cases.append(struct_of(type_, fixed | {discriminant: case}, depth))
    return st.one_of(cases)


def struct_of(
    type_: StructType, fixed: Mapping[str, bool | str], depth: int
) -> st.SearchStrategy[Any]:
    """Return structures whose fields are present (True), absent (False) or from a strategy."""
    made: dict[str, st.SearchStrategy[Any]] = {}
    for field in type_.fields:
        inner = field.type.element if isinstance(field.type, OptionalType) else field.type
        match fixed.get(field.name):
            case False:
                made[field.attribute] = st.none()
            case True:
                made[field.attribute] = set_values(inner, depth)
            case str() as value:
                made[field.attribute] = st.just(enum_of(inner, value))
            case None:
                made[field.attribute] = values(field.type, depth)
    return st.builds(type_.cls, **made)


def enum_of(type_: Type, value: str) -> Any:
    assert isinstance(type_, EnumType)
    return type_.cls(value)


def set_values(type_: Type, depth: int) -> st.SearchStrategy[Any]:
    """Return values that are set when they are optional."""
    return values(type_, depth).filter(is_set)


def is_set(value: Any) -> bool:
    if isinstance(value, Structure):
        return any(getattr(value, name) is not None for name in value.__struct_fields__)
    return not hasattr(value, "__len__") or len(value) > 0


def optionals(type_: OptionalType, depth: int) -> st.SearchStrategy[Any]:
    if depth <= 0:
        return st.none()
    return st.none() | set_values(type_.element, depth)


MESSAGES = st.builds(
    LocalizableMessage,
    id=st.text(max_size=5),
    default_message=st.text(max_size=5),
    args=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


def make_error(
    error_type: ErrorType,
    messages: list[LocalizableMessage],
    data: CertificateInfo | None,
    challenge: str | None,
) -> ApiError:
    if error_type is not ErrorType.UNVERIFIED_PEER:
        data = None
    if error_type not in (ErrorType.UNAUTHENTICATED, ErrorType.UNAUTHORIZED):
        challenge = None
    return ApiError(error_type, *messages, data=data, challenge=challenge)


ERRORS = st.builds(
    make_error,
    st.sampled_from(list(ErrorType)),
    st.lists(MESSAGES, max_size=2),
    st.none() | st.builds(CertificateInfo, ssl_thumbprint=st.text(max_size=5)),
    st.none() | st.text(min_size=1, max_size=5),
)

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 (the zone follows)
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000, tzinfo=UTC)
)

Maker = Callable[[Any, int], st.SearchStrategy[Any]]

MAKERS: Mapping[type[Type], Maker] = {
    StringType: lambda _type, _depth: st.text(max_size=8),
    IdType: lambda _type, _depth: st.text(min_size=1, max_size=8),
    IntegerType: lambda _type, _depth: st.integers(-(2**63), 2**63 - 1),
    DoubleType: lambda _type, _depth: st.floats(allow_nan=False, allow_infinity=False),
    BooleanType: lambda _type, _depth: st.booleans(),
    SecretType: lambda _type, _depth: st.text(min_size=1, max_size=8).map(Secret),
    DateTimeType: lambda _type, _depth: TIMES,
    OpaqueType: lambda _type, _depth: st.integers(0, 9).map(lambda value: Opaque(None, value)),
    AnyErrorType: lambda _type, _depth: ERRORS,
    EnumType: lambda type_, _depth: st.sampled_from(list(type_.cls)),
    StructType: structures,
    OptionalType: optionals,
    ListType: lambda type_, depth: st.lists(values(type_.element, depth), max_size=2).map(tuple),
    SetType: lambda type_, depth: st.frozensets(values(type_.element, depth), max_size=2),
    MapType: lambda type_, depth: st.dictionaries(
        values(type_.key, depth), values(type_.value, depth), max_size=2
    ),
}

EVERYTHING = st.sampled_from(sorted(BY_VAPI_NAME)).flatmap(
    lambda name: values(StructType(BY_VAPI_NAME[name]))
)
OF_THE_SDK = EVERYTHING.filter(lambda value: not value.vapi.startswith("org.openvcha."))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def over_the_wire(value: Any) -> Any:
    return parse_json(json.dumps(value).encode())


@settings(max_examples=200, deadline=None)
@given(EVERYTHING)
def test_every_structure(value: Structure) -> None:
    """In both encodings; in REST's no unset field is on the wire."""
    encoded = over_the_wire(encode_rest(type(value), value))
    assert None not in leaves(encoded)
    assert decode_rest(type(value), encoded) == value
    assert decode_vapi(type(value), over_the_wire(encode_vapi(type(value), value))) == value


@settings(max_examples=200, deadline=None)
@given(value=OF_THE_SDK)
def test_the_sdk_reads_and_writes_the_same(
    value: Structure, sdk_classes: Mapping[str, Any]
) -> None:
    """The SDK accepts every structure that we send, and sends the same back."""
    cls = sdk_classes[value.vapi]
    data = JsonRpcDictToVapi.data_value(over_the_wire(encode_vapi(type(value), value)))
    for validator in getattr(cls, "_validator_list", None) or []:
        assert not validator.validate(data, cls.get_binding_type())
    python = TypeConverter.convert_to_python(data, cls.get_binding_type())
    assert isinstance(python, cls)
    back = TypeConverter.convert_to_vapi(python, cls.get_binding_type())
    assert decode_vapi(type(value), parse_json(VAPIJsonEncoder().encode(back).encode())) == value


@settings(deadline=None)
@given(ERRORS)
def test_errors(error: ApiError) -> None:
    """An error survives both encodings."""
    assert decode_error_rest(over_the_wire(encode_error_rest(error))) == error
    assert decode_error_vapi(over_the_wire(encode_error_vapi(error))) == error


@settings(deadline=None)
@given(error=ERRORS)
def test_the_sdk_reads_errors(error: ApiError, sdk_classes: Mapping[str, Any]) -> None:
    """The SDK raises the class of each error, with its messages, data and challenge."""
    cls = sdk_classes[error.error_type.structure]
    data = JsonRpcDictToVapi.error_value(over_the_wire(encode_error_vapi(error)))
    raised = TypeConverter.convert_to_python(data, cls.get_binding_type())
    assert isinstance(raised, cls)
    assert str(raised.error_type) == error.error_type.value
    assert [message.id for message in raised.messages] == [each.id for each in error.messages]
    assert getattr(raised, "challenge", None) == error.challenge
    if isinstance(error.data, CertificateInfo):
        peer = raised.data.convert_to(sdk_classes[CertificateInfo.vapi])
        assert peer.ssl_thumbprint == error.data.ssl_thumbprint
    else:
        assert raised.data is None


@settings(max_examples=50, deadline=None)
@given(values(descriptor(dict[str, LocalizableMessage])))
def test_maps(value: Any) -> None:
    """A map survives both encodings."""
    tp = dict[str, LocalizableMessage]
    assert decode_rest(tp, over_the_wire(encode_rest(tp, value))) == value
    assert decode_vapi(tp, over_the_wire(encode_vapi(tp, value))) == value


@settings(max_examples=50, deadline=None)
@given(values(descriptor(PassiveRedeploySpec)))
def test_nothing_secret_is_kept(value: PassiveRedeploySpec) -> None:
    """The stored form lacks the password, and nothing else."""
    kept = decode_rest(
        PassiveRedeploySpec, over_the_wire(encode_without_secrets(PassiveRedeploySpec, value))
    )
    assert kept.placement == value.placement
    assert kept.ha_ip == value.ha_ip
    if value.vc_spec is not None:
        location = value.vc_spec.active_location
        assert kept.vc_spec.active_location == msgspec.structs.replace(location, password=None)


@pytest.mark.parametrize("encode", [encode_rest, encode_vapi])
def test_a_time_without_zone_is_refused(encode: Callable[[Any, Any], Any]) -> None:
    """A time without a zone is ambiguous: an error of ours, raised at once."""
    with pytest.raises(ValueError, match="zone"):
        encode(datetime, datetime(2026, 1, 1))  # noqa: DTZ001 (that is the point)
