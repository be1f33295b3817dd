"""Patroni sees only values in the store that have the form in which it writes them itself.

Any voter can write anything there. Patroni 4.1 fails on a value that is not UTF-8, on a list where
it expects a name, on another system's identifier: it demotes the primary, or exits, as long as the
value is there, and no other node can lead either. Values of another form are left out here;
Patroni and its leader then write them again.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from openvcha.store.bounded_json import json_object
from openvcha.store.patroni_state import is_name, wished

MOST_NAMES: Final = 128
MOST_LINES: Final = 10_000
MOST: Final = 1 << 64
_SLOT: Final = re.compile(r"[a-z0-9_]{1,63}")
_IDENTIFIER: Final = re.compile(r"[0-9]{0,20}")
NOBODY: Final = "{}"
"""Replaces an unreadable ``/sync``: no standby is in sync, and the leader writes a new one."""

_log = logging.getLogger(__name__)

Check = Callable[[Any], bool]
Load = Callable[[Any], None]

REPLACES = {
    "patroni.dcs.etcd3:base64_decode": "3987e680928d1706",
    "patroni.ha:Ha.load_cluster_from_dcs": "8379096cbd7c67d2",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    etcd3: Any = import_module("patroni.dcs.etcd3")
    ha = import_module("patroni.ha")
    for needed in ("base64_decode", "PatroniEtcd3Client"):
        getattr(etcd3, needed)
    for needed in ("sysid_valid", "load_cluster_from_dcs"):
        getattr(ha.Ha, needed)
    etcd3.base64_decode = text
    ha.Ha.load_cluster_from_dcs = of_this_system(ha.Ha.load_cluster_from_dcs)


def text(encoded: str) -> str:
    """Decode a value from etcd's gateway, with replacement characters for invalid UTF-8."""
    return base64.b64decode(encoded).decode(errors="replace")


def is_formed(name: str, value: str) -> bool:
    """Return whether the value of a key (its short name) has the form that Patroni writes."""
    check = _FORMS.get(name)
    return check is None or check(value)


def instead_of(name: str) -> str | None:
    """Return what Patroni sees instead of an unreadable value; None if the key is hidden."""
    return _INSTEAD.get(name)


def of_this_system(original: Load) -> Load:
    """Ignore the identifier of another system; the leader then writes its own back.

    That this node belongs to the cluster is proven by its certificate.
    """

    def load_cluster_from_dcs(self: Any) -> None:
        original(self)
        own, named = self.state_handler.sysid, self.cluster.initialize
        if named and self.sysid_valid(own) and named != own:
            _log.warning("ignoring a system identifier in the store that is not this node's")
            fields = {name: getattr(self.cluster, name) for name in self.cluster._fields}
            self.cluster = type(self.cluster)(**{**fields, "initialize": ""})

    return load_cluster_from_dcs


def _slot(value: Any) -> bool:
    return isinstance(value, str) and _SLOT.fullmatch(value) is not None


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _slots(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_NAMES
        and all(_slot(name) and _count(place) for name, place in value.items())
    )


def _retained(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_slot, value))


def _object(**fields: Check) -> Check:
    """Return a check for a JSON object in which each field that is present has its form."""

    def check(value: str) -> bool:
        found = json_object(value)
        return found is not None and all(
            name not in found or _or_none(form)(found[name]) for name, form in fields.items()
        )

    return check


def _identifier(value: str) -> bool:
    return _IDENTIFIER.fullmatch(value) is not None


def _history(value: str) -> bool:
    try:
        lines = json.loads(value)
    except ValueError:
        return False
    return isinstance(lines, list) and len(lines) <= MOST_LINES and all(map(_line, lines))


def _line(line: Any) -> bool:
    return (
        isinstance(line, list)
        and len(line) >= len(("timeline", "place", "reason"))
        and all(map(_count, line[:2]))
        and all(isinstance(word, str) for word in line[2:])
    )


_FORMS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "initialize": _identifier,
        "leader": is_name,
        "sync": _object(leader=is_name, sync_standby=is_name, quorum=_count),
        "status": _object(optime=_count, slots=_slots, retain_slots=_retained),
        "failover": lambda value: wished(value) is not None,
        "history": _history,
        "optime/leader": lambda _: False,  # of an older Patroni, which is never used here
    }
)
_INSTEAD: Final[Mapping[str, str]] = MappingProxyType({"initialize": "", "sync": NOBODY})
