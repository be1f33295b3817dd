"""Limits of stored texts, whatever a caller, a step or another node has sent.

All records are encoded for the store through here (``records.encode``), so the size of the data
that one request stores is bounded, wherever its texts come from.
"""

from typing import Any, Final, TypeVar

import msgspec

from openvcha.api.foreign_text import truncate
from openvcha.api.structures import LocalizableMessage

MAX_ARGUMENT: Final = 300
MAX_TEXT: Final = 1000
MAX_ARGUMENTS: Final = 8

T = TypeVar("T")


def truncated(value: T) -> T:
    """Return a value with all of its messages truncated; the same object if none is too long."""
    found: Any = value
    match found:
        case LocalizableMessage():
            found = _message(found)
        case msgspec.Struct():
            found = _structure(found)
        case dict():
            found = _same_or(found, {name: truncated(each) for name, each in found.items()})
        case list() | tuple():
            found = _same_or(found, type(found)(truncated(each) for each in found))
    return found  # type: ignore[no-any-return]  # of the same type as value


def _message(text: LocalizableMessage) -> LocalizableMessage:
    arguments = tuple(truncate(each, MAX_ARGUMENT) for each in text.args[:MAX_ARGUMENTS])
    shown = truncate(text.default_message, MAX_TEXT)
    if (arguments, shown) == (text.args, text.default_message):
        return text
    return msgspec.structs.replace(text, default_message=shown, args=arguments)


def _structure(value: msgspec.Struct) -> msgspec.Struct:
    old = {name: getattr(value, name) for name in value.__struct_fields__}
    new = {name: truncated(each) for name, each in old.items()}
    changed = {name: each for name, each in new.items() if each is not old[name]}
    return msgspec.structs.replace(value, **changed) if changed else value


def _same_or(old: Any, new: Any) -> Any:
    """Return the old value unless one of its items has changed."""
    values = (old.values(), new.values()) if isinstance(old, dict) else (old, new)
    return old if all(a is b for a, b in zip(*values, strict=True)) else new
