"""The errors of values that do not fit their type; each names the field by its path."""

from collections.abc import Mapping
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures.std import LocalizableMessage


def at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def invalid(path: str, cause: LocalizableMessage) -> ApiError:
    """INVALID_ARGUMENT for the field at `path`, with the reason beneath."""
    top = message("vapi.data.structure.field.invalid", path or "The value")
    return ApiError(ErrorType.INVALID_ARGUMENT, top, cause)


def missing(path: str) -> ApiError:
    return invalid(path, message("vapi.data.structure.field.missing", path))


def unexpected(path: str, structure: str) -> ApiError:
    """UNEXPECTED_INPUT for a field that the structure does not have."""
    cause = message("vapi.data.structure.field.unexpected", path, structure)
    return ApiError(ErrorType.UNEXPECTED_INPUT, cause)


def wrong_type(path: str, wanted: str, value: Any) -> ApiError:
    """INVALID_ARGUMENT; shows what kind of value came, never the value, which may be secret."""
    return invalid(path, message("decode.type", path or "The value", wanted, kind(value)))


def wrong(name: str, path: str, *arguments: object) -> ApiError:
    """INVALID_ARGUMENT whose cause is this message of the catalogue, with the path first."""
    return invalid(path, message(name, path or "The value", *arguments))


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "an object")


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
}
