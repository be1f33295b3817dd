"""How much of a text is kept: whatever a caller, a step or another node has said.

All records go through here on their way into the store (``records.encode``): so what one request
leaves behind has a bound, whoever made the message and wherever it stands in the record.
"""

from typing import Any, Final, TypeVar

import msgspec

from openvcha.api.structures import LocalizableMessage
from openvcha.api.truncation import truncate

LONGEST_ARGUMENT: Final = 300
LONGEST_TEXT: Final = 1000
MOST_ARGUMENTS: Final = 8

T = TypeVar("T")


def kept(value: T) -> T:
    """Return a value with every message in it cut; the same object where nothing is too long."""
    found: Any = value
    match found:
        case LocalizableMessage():
            found = _message(found)
        case msgspec.Struct():
            found = _structure(found)
        case dict():
            found = _same_or(found, {name: kept(each) for name, each in found.items()})
        case list() | tuple():
            found = _same_or(found, type(found)(kept(each) for each in found))
    return found  # type: ignore[no-any-return]  # it is of the type that came


def _message(text: LocalizableMessage) -> LocalizableMessage:
    arguments = tuple(truncate(each, LONGEST_ARGUMENT) for each in text.args[:MOST_ARGUMENTS])
    shown = truncate(text.default_message, LONGEST_TEXT)
    if (arguments, shown) == (text.args, text.default_message):
        return text
    return msgspec.structs.replace(text, default_message=shown, args=arguments)


def _structure(value: msgspec.Struct) -> msgspec.Struct:
    old = {name: getattr(value, name) for name in value.__struct_fields__}
    new = {name: kept(each) for name, each in old.items()}
    changed = {name: each for name, each in new.items() if each is not old[name]}
    return msgspec.structs.replace(value, **changed) if changed else value


def _same_or(old: Any, new: Any) -> Any:
    """Return the old one unless something in it has changed."""
    values = (old.values(), new.values()) if isinstance(old, dict) else (old, new)
    return old if all(a is b for a, b in zip(*values, strict=True)) else new
