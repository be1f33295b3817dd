"""Constraints of fields beyond their types, for the OpenAPI document.

The packages below enforce them; this module only describes them to readers of the document.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from openvcha.api.types import Union
from openvcha.events.audit import MAX_LISTED
from openvcha.events.log import EVENT_ID, MAX_EVENTS
from openvcha.infrastructure.placement import NAME
from openvcha.operations.peers.identity import HOSTNAME, MAX_HOSTNAME_CHARACTERS, THUMBPRINT

INTEGER: Final = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_SET: Final = {"minLength": 1}
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = {"format": "ipv4", "pattern": rf"^(?:{_BYTE}\.){{3}}{_BYTE}$"}
_IPV6: Final = {"format": "ipv6", "maxLength": 45, "pattern": "^[0-9A-Fa-f:.]+$"}


def _whole(*patterns: re.Pattern[str]) -> dict[str, str]:
    """Return a schema of strings that fully match one of the patterns."""
    return {"pattern": f"^(?:{'|'.join(each.pattern for each in patterns)})$"}


_ADDRESS = re.compile("[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
FIELDS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "com.vmware.vcenter.vcha.connection_spec": {
        "hostname": _whole(HOSTNAME, _ADDRESS)
        | {"minLength": 1, "maxLength": MAX_HOSTNAME_CHARACTERS},
        "port": {"minimum": 1, "maximum": 65535},
        "username": _SET,
        "password": _SET,
        "ssl_thumbprint": _whole(THUMBPRINT),
    },
    "com.vmware.vcenter.vcha.ipv4_spec": {
        "address": _IPV4,
        "subnet_mask": _IPV4,
        "prefix": {"minimum": 1, "maximum": 32},
    },
    "com.vmware.vcenter.vcha.ipv6_spec": {
        "address": _IPV6,
        "prefix": {"minimum": 1, "maximum": 128},
    },
    "org.openvcha.joining.join_spec": {"name": _whole(NAME)},
    "org.openvcha.events.filter_spec": {
        "after": _whole(EVENT_ID),
        "limit": {"minimum": 1, "maximum": MAX_EVENTS},
    },
    "org.openvcha.audit.filter_spec": {"limit": {"minimum": 1, "maximum": MAX_LISTED}},
}
"""By structure and field."""

REQUIRED_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "com.vmware.vcenter.vcha.connection_spec": ("username", "password"),
}
"""Fields that are optional by type but required by the API."""

EXCLUSIVE: Final[Mapping[str, tuple[str, str]]] = {
    "com.vmware.vcenter.vcha.connection_spec": ("ssl_thumbprint", "ssl_certificate"),
}
"""Fields of which at most one is set."""

AT_LEAST_ONE: Final[Mapping[str, tuple[str, ...]]] = {
    "com.vmware.cis.tasks.filter_spec": ("tasks", "services"),
    "com.vmware.vcenter.vcha.ipv4_spec": ("subnet_mask", "prefix"),
}
"""Fields of which at least one is set."""

REQUIRED_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "com.vmware.cis.tasks.list": ("filter_spec",),
}
"""By operation: parameters that are optional by type but required by the API."""


def constrained(structure: str, described: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a structure with the constraints of its fields."""
    for name, more in FIELDS.get(structure, {}).items():
        described["properties"][name] |= more
    if demanded := REQUIRED_FIELDS.get(structure):
        described["required"] = [*described.get("required", ()), *demanded]
    if both := EXCLUSIVE.get(structure):
        described["not"] = {"required": list(both)}
    if one_of := AT_LEAST_ONE.get(structure):
        described["anyOf"] = [{"required": [each]} for each in one_of]
    return described


def cases(union: Union) -> list[dict[str, Any]]:
    """Return a schema for each value of a discriminant: the fields it requires and excludes."""
    return [_case(union, case) for case in union.cases]


def _case(union: Union, case: str) -> dict[str, Any]:
    chosen = union.cases[case]
    others = dict.fromkeys(each for names in union.cases.values() for each in names)
    described: dict[str, Any] = {"properties": {union.discriminant: {"enum": [case]}}}
    if required := [name for name, needed in chosen.items() if needed]:
        described["required"] = required
    if barred := [name for name in others if name not in chosen]:
        described["not"] = {"anyOf": [{"required": [name]} for name in barred]}
    return described
