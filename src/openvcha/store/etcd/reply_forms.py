"""Validation of etcd's responses: a malicious peer may send any JSON.

A field that etcd omits or sets to null is zero, empty or false.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from openvcha.api.foreign_text import truncate

Json = dict[str, Any]
MAX_SHOWN: Final = 300
"""Characters of a member's text that are shown."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_TOKEN: Final = re.compile(r"[!-~]{1,4096}")


class Malformed(ValueError):  # noqa: N818 - describes a response; becomes a StoreError
    """A response does not have etcd's form; the text says where, and what was expected."""


def read_object(value: object, where: str) -> Json:
    """Return an object. Raises Malformed, as all functions here do."""
    if not isinstance(value, dict):
        raise Malformed(f"{where}: expected an object")
    return value


def inner(fields: Mapping[str, Any], name: str) -> Json:
    """Return a required object."""
    return read_object(fields.get(name), name)


def read_list(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{name}: expected a list")
    return value


def objects(fields: Mapping[str, Any], name: str) -> list[Json]:
    """Return a list of objects."""
    return [read_object(each, name) for each in read_list(fields, name)]


def texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts."""
    found = read_list(fields, name)
    if not all(isinstance(each, str) for each in found):
        raise Malformed(f"{name}: expected a list of texts")
    return tuple(found)


def text(fields: Mapping[str, Any], name: str) -> str:
    """Return a text."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{name}: expected a text")
    return value or ""


def number(fields: Mapping[str, Any], name: str) -> int:
    """Return a 64-bit integer; etcd writes it as a string or a number."""
    value = fields.get(name)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not _LEAST <= value <= _MOST:
        raise Malformed(f"{name}: expected a 64-bit number")
    return value


def identifier(fields: Mapping[str, Any], name: str) -> int:
    """Return a required number."""
    if fields.get(name) is None:
        raise Malformed(f"{name}: expected a number")
    return number(fields, name)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """Return a boolean."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed(f"{name}: expected true or false")
    return bool(value)


def raw(fields: Mapping[str, Any], name: str) -> bytes:
    """Return bytes, decoded from base64."""
    try:
        return b64decode(text(fields, name))
    except ValueError:
        raise Malformed(f"{name}: expected base64") from None


def token(fields: Mapping[str, Any], name: str) -> str:
    """Return a text that is valid as an HTTP header."""
    value = text(fields, name)
    if not _TOKEN.fullmatch(value):
        raise Malformed(f"{name}: expected a token")
    return value


def shown(value: object) -> str:
    """Return the first characters of any value, for an error."""
    return truncate(value if isinstance(value, str) else "", MAX_SHOWN)
