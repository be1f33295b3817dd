"""Decoders of scalar values; they are the same in all protocols."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from openvcha.api.codec.faults import invalid_value, wrong_type
from openvcha.api.types import (
    BooleanType,
    DateTimeType,
    DoubleType,
    Enumeration,
    IntegerType,
    StringType,
    Type,
)

#: Takes a JSON value and its path; returns the Python value. Raises ApiError.
Decode = Callable[[Any, str], Any]

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)


def string(value: Any, path: str) -> str:
    """Return the string. Raises ApiError INVALID_ARGUMENT, as all decoders here do."""
    if type(value) is not str:
        raise wrong_type(path, "a string", value)
    return value


def boolean(value: Any, path: str) -> bool:
    """Return the boolean."""
    if type(value) is not bool:
        raise wrong_type(path, "a boolean", value)
    return value


def integer(value: Any, path: str) -> int:
    """Return the integer, which must fit in signed 64 bits."""
    if type(value) is not int:
        raise wrong_type(path, "an integer", value)
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise invalid_value("decode.range", path, MIN_INTEGER, MAX_INTEGER)
    return value


def double(value: Any, path: str) -> float:
    """Return the number, which must be finite."""
    if type(value) not in (int, float):
        raise wrong_type(path, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise invalid_value("decode.finite", path)
    return number


def time(value: Any, path: str) -> datetime:
    """Parse a time in RFC 3339; return it in UTC."""
    text = string(value, path)
    if not _TIME.fullmatch(text):
        raise invalid_value("decode.time", path)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid_value("decode.time", path) from error


def enumeration(cls: type[Enumeration]) -> Decode:
    """Return the decoder of an enumeration's values."""
    members: Mapping[str, Enumeration] = {member.value: member for member in cls}

    def decode(value: Any, path: str) -> Enumeration:
        member = members.get(string(value, path))
        if member is None:
            raise invalid_value("decode.enum", path, ", ".join(members))
        return member

    return decode


SCALARS: Mapping[type[Type], Decode] = {
    StringType: string,
    BooleanType: boolean,
    IntegerType: integer,
    DoubleType: double,
    DateTimeType: time,
}
