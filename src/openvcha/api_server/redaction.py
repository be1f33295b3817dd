"""Internal failures for the log: complete, but without the secrets of the request."""

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from openvcha.api.secret import Secret


def secrets_in(value: Any) -> Iterator[Secret]:
    """Yield every secret in decoded arguments."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from secrets_in(tuple(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for element in value:
            yield from secrets_in(element)


def describe(failure: BaseException, hidden: Iterable[Secret] | None) -> str:
    """Return the traceback, with `***` for the secrets.

    If `hidden` is None, the secrets are unknown: only the frames and the type are shown.
    """
    if hidden is None:
        places = "".join(traceback.format_tb(failure.__traceback__))
        return f"{places}{type(failure).__qualname__}"
    return redact("".join(traceback.format_exception(failure)), hidden)


def redact(text: str, hidden: Iterable[Secret]) -> str:
    """Replace each secret, in every form in which it may be quoted, by `***`."""
    spellings = {spelling for secret in hidden for spelling in _spellings(secret.reveal())}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(plain: str) -> set[str]:
    quoted = (repr(plain), ascii(plain), json.dumps(plain), json.dumps(plain, ensure_ascii=False))
    return {plain, quote(plain), *(text[1:-1] for text in quoted)} - {""}
