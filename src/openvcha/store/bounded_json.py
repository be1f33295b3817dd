"""JSON that others have written, read within bounds: no text brings its reader down.

Whoever has a vote can write what he likes. Parsers of JSON give up on a text of many levels with
RecursionError, which no reader of records expects: so levels are counted before anything is parsed.
"""

import json
import re
from typing import Any, Final, TypeVar

import msgspec

MOST_BYTES: Final = 2 << 20
"""Etcd itself takes no request of more than 1.5 MiB from who does not hold a vote."""
MOST_LEVELS: Final = 64
"""As for what comes by the API; no record has ten."""

_TEXTS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[][{}]")

T = TypeVar("T")


def unbounded(value: bytes) -> str | None:
    """Return why a text is too much for its readers; None when it is not."""
    if len(value) > MOST_BYTES:
        return f"more than {MOST_BYTES} bytes"
    if value.count(b"[") + value.count(b"{") > MOST_LEVELS and _levels(value) > MOST_LEVELS:
        return f"more than {MOST_LEVELS} levels"
    return None


def decode(value: bytes, type_: type[T]) -> T:
    """Read a value of a type. Raises msgspec.DecodeError."""
    if reason := unbounded(value):
        raise msgspec.DecodeError(reason)
    return msgspec.json.decode(value, type=type_)


def json_object(value: bytes | str) -> dict[str, Any] | None:
    """Return the fields of an object; None for what is none, or cannot be read."""
    found = _loaded(value)
    return found if isinstance(found, dict) else None


def json_list(value: bytes | str) -> list[Any] | None:
    """Return the elements of a list; None for what is none, or cannot be read."""
    found = _loaded(value)
    return found if isinstance(found, list) else None


def _loaded(value: bytes | str) -> object:
    try:
        text = value if isinstance(value, str) else value.decode()
        return None if unbounded(text.encode()) else json.loads(text)
    except ValueError:
        return None


def _levels(value: bytes) -> int:
    """Count the levels that a parser goes down at most, also before it finds a fault."""
    level = most = 0
    for bracket in _BRACKETS.findall(_TEXTS.sub(b"", value)):
        level += 1 if bracket in b"[{" else -1
        most = max(most, level)
    return most
