"""Bounded parsing of foreign JSON: no text can crash its reader.

Any voter can write arbitrary values. JSON parsers raise RecursionError for deeply nested text,
which no reader of records expects: so the depth is checked before parsing.
"""

import json
import re
from typing import Any, Final, TypeVar

import msgspec

MAX_BYTES: Final = 2 << 20
"""etcd limits clients' requests to 1.5 MiB."""
MAX_DEPTH: Final = 64
"""The same as for API requests; no record has more than ten levels."""

_TEXTS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[][{}]")

T = TypeVar("T")


def exceeded_limit(value: bytes) -> str | None:
    """Return a description of the limit that a text exceeds; None when it exceeds none."""
    if len(value) > MAX_BYTES:
        return f"more than {MAX_BYTES} bytes"
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} levels"
    return None


def decode(value: bytes, type_: type[T]) -> T:
    """Decode a value of a type. Raises msgspec.DecodeError."""
    if reason := exceeded_limit(value):
        raise msgspec.DecodeError(reason)
    return msgspec.json.decode(value, type=type_)


def json_object(value: bytes | str) -> dict[str, Any] | None:
    """Return the fields of a JSON object; None for any other or unreadable value."""
    found = _loaded(value)
    return found if isinstance(found, dict) else None


def json_list(value: bytes | str) -> list[Any] | None:
    """Return the elements of a JSON list; None for any other or unreadable value."""
    found = _loaded(value)
    return found if isinstance(found, list) else None


def _loaded(value: bytes | str) -> object:
    try:
        text = value if isinstance(value, str) else value.decode()
        return None if exceeded_limit(text.encode()) else json.loads(text)
    except ValueError:
        return None


def _depth(value: bytes) -> int:
    """Return the maximum depth to which a parser descends, even before a syntax error."""
    level = most = 0
    for bracket in _BRACKETS.findall(_TEXTS.sub(b"", value)):
        level += 1 if bracket in b"[{" else -1
        most = max(most, level)
    return most
