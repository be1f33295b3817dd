"""JSON texts from outside: size, encoding, syntax, depth and repeated keys."""

import json
from collections import Counter
from typing import Any, NoReturn

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message

MAX_BYTES = 1 << 20
MAX_DEPTH = 64


class _Repeated(dict[str, Any]):
    """An object of the text that has `key` more than once."""

    key: str


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ApiError INVALID_REQUEST: over 1 MiB, not UTF-8, not JSON, over 64 levels deep, or an
    object with a repeated key (named by its path).
    """
    if len(data) > MAX_BYTES:
        raise malformed("decode.too.large", MAX_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise malformed("decode.encoding") from error
    repeated: list[str] = []
    value = _parse(text, repeated)
    if repeated or _suspicious(text):
        _examine(value, None, 0)
    return value


def malformed(name: str, *arguments: object) -> ApiError:
    return ApiError(ErrorType.INVALID_REQUEST, message(name, *arguments))


def _parse(text: str, repeated: list[str]) -> Any:
    """The value; keys that an object has more than once are added to `repeated`."""

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        marked = _Repeated(plain)
        counts = Counter(key for key, _ in pairs)
        marked.key = next(key for key in plain if counts[key] > 1)
        repeated.append(marked.key)
        return marked

    try:
        return json.loads(text, object_pairs_hook=make, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise malformed("decode.syntax", error.msg, error.pos) from error
    except RecursionError as error:
        raise malformed("decode.depth", MAX_DEPTH) from error
    except ValueError as error:  # NaN, Infinity, or an integer of thousands of digits
        raise malformed("decode.number") from error


def _suspicious(text: str) -> bool:
    """Whether the text may be too deep or hold lone surrogates; most texts cannot."""
    return text.count("{") + text.count("[") > MAX_DEPTH or "\\u" in text


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _examine(value: Any, trail: "_Trail", depth: int) -> None:
    """Raises for what the parser lets through: depth, repeated keys, lone surrogates."""
    if isinstance(value, str):
        _well_formed(value, trail)
    elif isinstance(value, (dict, list)):
        if depth == MAX_DEPTH:
            raise malformed("decode.depth", MAX_DEPTH)
        if isinstance(value, list):
            for index, item in enumerate(value):
                _examine(item, (trail, index), depth + 1)
        else:
            _examine_object(value, trail, depth)


def _examine_object(value: dict[str, Any], trail: "_Trail", depth: int) -> None:
    for key, item in value.items():
        _well_formed(key, trail)
        _examine(item, (trail, key), depth + 1)
    if isinstance(value, _Repeated):
        raise malformed("decode.duplicate", _path((trail, value.key)))


def _well_formed(text: str, trail: "_Trail") -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise malformed("decode.text", _path(trail) or "The request") from error


# The way to a value, its last step at hand. It becomes a text only when it is to be shown: with
# a long key over a long list, making the texts of all ways would take minutes.
_Trail = tuple["_Trail", str | int] | None


def _path(trail: _Trail) -> str:
    steps = []
    while trail is not None:
        trail, step = trail
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).removeprefix(".")
