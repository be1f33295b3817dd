"""Standard structures that other structures use."""

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.types import Enumeration, Id, Structure


class DateTimeFormat(Enumeration, vapi="com.vmware.vapi.std.localization_param.date_time_format"):
    """The format of a time in a message."""

    SHORT_DATE = "SHORT_DATE"
    MED_DATE = "MED_DATE"
    LONG_DATE = "LONG_DATE"
    FULL_DATE = "FULL_DATE"
    SHORT_TIME = "SHORT_TIME"
    MED_TIME = "MED_TIME"
    LONG_TIME = "LONG_TIME"
    FULL_TIME = "FULL_TIME"
    SHORT_DATE_TIME = "SHORT_DATE_TIME"
    MED_DATE_TIME = "MED_DATE_TIME"
    LONG_DATE_TIME = "LONG_DATE_TIME"
    FULL_DATE_TIME = "FULL_DATE_TIME"


class LocalizationParam(Structure):
    """A parameter of a message: a string, time, integer, double or nested message."""

    vapi: ClassVar[str] = "com.vmware.vapi.std.localization_param"

    s: str | None = None
    dt: datetime | None = None
    i: int | None = None
    d: float | None = None
    nested: "NestedLocalizableMessage | None" = msgspec.field(name="l", default=None)
    format: DateTimeFormat | None = None
    precision: int | None = None


class NestedLocalizableMessage(Structure):
    """A message that is a parameter of another one."""

    vapi: ClassVar[str] = "com.vmware.vapi.std.nested_localizable_message"

    id: str
    params: dict[str, LocalizationParam] | None = None


class LocalizableMessage(Structure):
    """A text for people: `default_message` is complete, `args` are its arguments."""

    vapi: ClassVar[str] = "com.vmware.vapi.std.localizable_message"

    id: str
    default_message: str
    args: tuple[str, ...]
    params: dict[str, LocalizationParam] | None = None
    localized: str | None = None


class DynamicID(Structure):
    """An identifier, with the type of the resource that it identifies."""

    vapi: ClassVar[str] = "com.vmware.vapi.std.dynamic_ID"

    type: str
    id: Annotated[str, Id("")]


prepare(__name__)
