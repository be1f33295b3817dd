"""What the API demands beyond the types of its fields, for its description.

Who decides is in the rooms below; this says it to whoever only reads the description.
"""

from collections.abc import Mapping
from typing import Any, Final

from openvcha.events.audit import MOST_LISTED
from openvcha.events.log import MAX_EVENTS
from openvcha.service.peer import LONGEST_HOSTNAME

INTEGER: Final = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_SET: Final = {"minLength": 1}

FIELDS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "com.vmware.vcenter.vcha.connection_spec": {
        "hostname": {"minLength": 1, "maxLength": LONGEST_HOSTNAME},
        "port": {"minimum": 1, "maximum": 65535},
        "username": _SET,
        "password": _SET,
    },
    "com.vmware.vcenter.vcha.ipv4_spec": {"prefix": {"minimum": 1, "maximum": 32}},
    "com.vmware.vcenter.vcha.ipv6_spec": {"prefix": {"minimum": 1, "maximum": 128}},
    "org.openvcha.events.filter_spec": {"limit": {"minimum": 1, "maximum": MAX_EVENTS}},
    "org.openvcha.audit.filter_spec": {"limit": {"minimum": 1, "maximum": MOST_LISTED}},
}
"""By the structure and the field."""

DEMANDED: Final[Mapping[str, tuple[str, ...]]] = {
    "com.vmware.vcenter.vcha.connection_spec": ("username", "password"),
}
"""Fields that the type leaves open and the API does not."""

EXCLUSIVE: Final[Mapping[str, tuple[str, str]]] = {
    "com.vmware.vcenter.vcha.connection_spec": ("ssl_thumbprint", "ssl_certificate"),
}
"""Fields of which one at the most is set."""


def bounded(structure: str, described: dict[str, Any]) -> dict[str, Any]:
    """Add to the schema of a structure what the API demands of its fields."""
    for name, more in FIELDS.get(structure, {}).items():
        described["properties"][name] |= more
    if demanded := DEMANDED.get(structure):
        described["required"] = [*described.get("required", ()), *demanded]
    if both := EXCLUSIVE.get(structure):
        described["not"] = {"required": list(both)}
    return described
