"""Errors for values that do not match their type; each names the field by its path."""

from collections.abc import Mapping
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures.std import LocalizableMessage


def join_path(path: str, name: str) -> str:
    """Return the path of the field `name` of the value at `path`."""
    return f"{path}.{name}" if path else name


def invalid(path: str, cause: LocalizableMessage) -> ApiError:
    """Return INVALID_ARGUMENT for the field at `path`, with `cause` as its second message."""
    top = message("vapi.data.structure.field.invalid", path or "The value")
    return ApiError(ErrorType.INVALID_ARGUMENT, top, cause)


def missing(path: str) -> ApiError:
    """Return INVALID_ARGUMENT for a required field that is unset."""
    return invalid(path, message("vapi.data.structure.field.missing", path))


def unexpected(path: str, structure: str) -> ApiError:
    """Return UNEXPECTED_INPUT for a field that the structure does not have."""
    cause = message("vapi.data.structure.field.unexpected", path, structure)
    return ApiError(ErrorType.UNEXPECTED_INPUT, cause)


def wrong_type(path: str, wanted: str, value: Any) -> ApiError:
    """Return INVALID_ARGUMENT naming the type of the value, since the value may be secret."""
    return invalid(path, message("decode.type", path or "The value", wanted, type_name(value)))


def invalid_value(name: str, path: str, *arguments: object) -> ApiError:
    """Return INVALID_ARGUMENT caused by a catalogue message; the path is its first argument."""
    return invalid(path, message(name, path or "The value", *arguments))


def type_name(value: Any) -> str:
    """Describe the type of a JSON value, e.g. "a string"."""
    return _KINDS.get(type(value), "an object")


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
}
