"""Strict decoding of a protocol's JSON to Python values.

A wrong value raises ApiError INVALID_ARGUMENT, an unknown field UNEXPECTED_INPUT; the message
names the field by its path, such as `spec.placement.name`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from openvcha.api.codec.decoders import (
    FieldDecoder,
    decode_fields,
    decoder,
    field_decoders,
)
from openvcha.api.codec.faults import missing
from openvcha.api.codec.interface import WireFormat
from openvcha.api.codec.json_text import MAX_BYTES, MAX_DEPTH, parse_json
from openvcha.api.codec.query import decode_query
from openvcha.api.codec.wire_formats import REST, VAPI, fields_of
from openvcha.api.errors import ApiError
from openvcha.api.operation import Operation, Parameter
from openvcha.api.types import descriptor

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "decode_arguments_rest",
    "decode_arguments_vapi",
    "decode_error_rest",
    "decode_error_vapi",
    "decode_rest",
    "decode_vapi",
    "parse_json",
]


def decode_rest(tp: Any, value: Any, path: str = "") -> Any:
    """Decode plain JSON to a value of the Python type `tp`."""
    return decoder(REST, descriptor(tp))(value, path)


def decode_vapi(tp: Any, value: Any, path: str = "") -> Any:
    """Decode vAPI's wrapped JSON to a value of the Python type `tp`."""
    return decoder(VAPI, descriptor(tp))(value, path)


def decode_error_rest(value: Any) -> ApiError:
    """Decode a standard error from its body on /api."""
    return REST.decode_error(value, "")


def decode_error_vapi(value: Any) -> ApiError:
    """Decode a standard error from {"ERROR": {name: {…}}}."""
    return VAPI.decode_error(value, "")


def decode_arguments_rest(
    operation: Operation,
    body: bytes | None,
    path_params: Mapping[str, str],
    query: Iterable[tuple[str, str]],
    wrapped: bool = False,
) -> dict[str, Any]:
    """Return all parameters of the operation by name; unset ones are None.

    `query` holds the name-value pairs of the query as received (`action` and `vmw-task` are
    ignored). `wrapped` is for /rest: the body names its parameter even if that is a single `spec`.
    """
    arguments = dict.fromkeys(parameter.name for parameter in operation.parameters)
    for parameter in operation.path_parameters:
        name = parameter.name
        arguments[name] = decode_rest(parameter.type, path_params[name], name)
    arguments |= decode_query(operation, query, wrapped)
    value = parse_json(body) if body and not body.isspace() else None
    return arguments | _decode_body(operation, value, wrapped)


def _decode_body(operation: Operation, value: Any, wrapped: bool) -> dict[str, Any]:
    if operation.body_is_spec and not wrapped:
        if value is None:
            raise missing("spec")
        return {"spec": decode_rest(operation.body_parameters[0].type, value, "spec")}
    values = {} if value is None else fields_of(value, "")
    return decode_fields(_body_fields(operation), "the request's body", values, "")


def decode_arguments_vapi(operation: Operation, input_value: Any) -> dict[str, Any]:
    """Return all parameters of the operation by name, from vAPI's `operation-input` structure."""
    arguments = dict.fromkeys(parameter.name for parameter in operation.parameters)
    values = VAPI.unwrap_structure("operation-input", input_value, "")
    return arguments | decode_fields(_input_fields(operation), "operation-input", values, "")


@cache
def _body_fields(operation: Operation) -> Mapping[str, FieldDecoder]:
    return _field_decoders(REST, operation.body_parameters)


@cache
def _input_fields(operation: Operation) -> Mapping[str, FieldDecoder]:
    return _field_decoders(VAPI, operation.parameters)


def _field_decoders(
    wire: WireFormat, parameters: Iterable[Parameter]
) -> Mapping[str, FieldDecoder]:
    return field_decoders(
        wire, ((each.name, each.name, descriptor(each.type)) for each in parameters)
    )
