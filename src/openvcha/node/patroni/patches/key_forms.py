"""Patroni sees only values in the store that have the format in which it writes them itself.

Any voter can write anything there. Patroni 4.1 fails on a value that is not UTF-8, on a list where
it expects a name, or on the identifier of another system: it demotes the primary, or exits, while
the value exists, and no other node can lead either. This patch hides malformed values; Patroni and
its leader then rewrite them.
"""

import base64
import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from openvcha.store.patroni.state import (
    Unreadable,
    is_name,
    is_system,
    read_failover,
    read_history,
    read_status,
    read_sync,
)

EMPTY_SYNC: Final = "{}"
"""Replaces an unreadable ``/sync``: no standby is in sync, and the leader writes a new one."""

_log = logging.getLogger(__name__)

Check = Callable[[str], bool]
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
    etcd3.base64_decode = decode_text
    ha.Ha.load_cluster_from_dcs = ignoring_other_systems(ha.Ha.load_cluster_from_dcs)


def decode_text(encoded: str) -> str:
    """Decode a value from etcd's gateway, with replacement characters for invalid UTF-8."""
    return base64.b64decode(encoded).decode(errors="replace")


def is_formed(name: str, value: str) -> bool:
    """Return whether the value of a key (its short name) has the format that Patroni writes."""
    check = _FORMS.get(name)
    return check is None or check(value)


def replacement_of(name: str) -> str | None:
    """Return what Patroni sees instead of an unreadable value; None if the key is hidden."""
    return _INSTEAD.get(name)


def ignoring_other_systems(original: Load) -> Load:
    """Ignore the identifier of another system; the leader then restores its own.

    The node's certificate proves that it belongs to the cluster.
    """

    def load_cluster_from_dcs(self: Any) -> None:
        original(self)
        own, named = self.state_handler.sysid, self.cluster.initialize
        if named and self.sysid_valid(own) and named != own:
            _log.warning("ignoring a system identifier in the store that is not this node's")
            fields = {name: getattr(self.cluster, name) for name in self.cluster._fields}
            self.cluster = type(self.cluster)(**{**fields, "initialize": ""})

    return load_cluster_from_dcs


def _is_read(found: object) -> bool:
    return not isinstance(found, Unreadable)


_FORMS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "initialize": is_system,
        "leader": is_name,
        "sync": lambda value: bool(value) and _is_read(read_sync(value)),
        "status": lambda value: _is_read(read_status(value)),
        "failover": lambda value: _is_read(read_failover(value)),
        "history": lambda value: _is_read(read_history(value)),
        "optime/leader": lambda _: False,  # only an older Patroni writes it
    }
)
_INSTEAD: Final[Mapping[str, str]] = MappingProxyType({"initialize": "", "sync": EMPTY_SYNC})
