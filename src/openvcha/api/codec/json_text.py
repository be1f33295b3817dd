"""A parser of JSON from outside that checks size, encoding, syntax, depth and duplicate keys."""

import json
from collections import Counter
from typing import Any, NoReturn

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message

MAX_BYTES = 1 << 20
MAX_DEPTH = 64


class _DuplicateKey(dict[str, Any]):
    """A JSON object that has `key` more than once."""

    key: str


def parse_json(data: bytes) -> Any:
    """Parse a JSON text in UTF-8.

    Raises ApiError INVALID_REQUEST: over 1 MiB, not UTF-8, not JSON, over 64 levels deep, or an
    object with a duplicate key (named by its path).
    """
    if len(data) > MAX_BYTES:
        raise malformed("decode.too.large", MAX_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise malformed("decode.encoding") from error
    repeated: list[str] = []
    value = _parse(text, repeated)
    if repeated or _needs_check(text):
        _check(value, None, 0)
    return value


def malformed(name: str, *arguments: object) -> ApiError:
    """Return INVALID_REQUEST with this message of the catalogue."""
    return ApiError(ErrorType.INVALID_REQUEST, message(name, *arguments))


def _parse(text: str, repeated: list[str]) -> Any:
    """Parse the text; add the duplicate keys of its objects to `repeated`."""

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        marked = _DuplicateKey(plain)
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


def _needs_check(text: str) -> bool:
    """Return whether the text may be too deep or contain lone surrogates; most texts cannot."""
    return text.count("{") + text.count("[") > MAX_DEPTH or "\\u" in text


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check(value: Any, trail: "_Trail", depth: int) -> None:
    """Raise ApiError for violations that the parser accepts: depth, duplicate keys, surrogates."""
    if isinstance(value, str):
        _check_text(value, trail)
    elif isinstance(value, (dict, list)):
        if depth == MAX_DEPTH:
            raise malformed("decode.depth", MAX_DEPTH)
        if isinstance(value, list):
            for index, item in enumerate(value):
                _check(item, (trail, index), depth + 1)
        else:
            _check_object(value, trail, depth)


def _check_object(value: dict[str, Any], trail: "_Trail", depth: int) -> None:
    for key, item in value.items():
        _check_text(key, trail)
        _check(item, (trail, key), depth + 1)
    if isinstance(value, _DuplicateKey):
        raise malformed("decode.duplicate", _path((trail, value.key)))


def _check_text(text: str, trail: "_Trail") -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise malformed("decode.text", _path(trail) or "The request") from error


# The path to a value as a linked list, last step first. It is formatted only for an error: with
# a long key above a long list, formatting the paths of all items would take minutes.
_Trail = tuple["_Trail", str | int] | None


def _path(trail: _Trail) -> str:
    steps = []
    while trail is not None:
        trail, step = trail
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).removeprefix(".")
