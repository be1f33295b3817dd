"""Patroni asks the same members of the store as its node does: those that hold data.

Patroni 4.1 starts with the hosts of its file, asks them who else is a member, and then asks all of
those, with its account. Here it asks whom the node's own files name at each moment, and nobody
else; also those who came after its start.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from openvcha.node.etcd.endpoints import data_endpoints
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout

_log = logging.getLogger(__name__)

Known = Callable[[], Sequence[str]]
Configured = Callable[[Any], list[str]]
Discover = Callable[[Any, list[str]], list[str]]

CLIENT = "patroni.dcs.etcd:AbstractEtcdClientWithFailover"
REPLACES = {
    f"{CLIENT}._get_machines_cache_from_config": "134ff050a1f926dc",
    f"{CLIENT}._get_machines_list": "b1f266619d0f0754",
}


def install() -> None:
    """Put it into the loaded Patroni. Raises AttributeError for another Patroni."""
    limit(import_module("patroni.dcs.etcd"), NodeEndpoints(Layout(Path(sys.argv[1]).parent)))


def limit(etcd: Any, known: Known) -> None:
    """Let Patroni's clients of the store ask whom ``known`` names (URLs)."""
    client, limits = etcd.AbstractEtcdClientWithFailover, Limits(known)
    client._get_machines_cache_from_config = limits.configured(  # noqa: SLF001 - there is no other handle
        client._get_machines_cache_from_config  # noqa: SLF001 - as above
    )
    client._get_machines_list = limits.discovering(client._get_machines_list)  # noqa: SLF001 - as above


class NodeEndpoints:
    """Whom the node's files name now; the last ones while the files cannot be read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._last: list[str] = []

    def __call__(self) -> Sequence[str]:
        """Return the URLs, the node's own first."""
        try:
            self._last = data_endpoints(load_identity(self._layout.root), self._layout)
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("keeping the store endpoints as they were: %s", error)
        return self._last


class Limits:
    """Two of Patroni's methods, limited to the endpoints that are known."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def configured(self, original: Configured) -> Configured:
        """Begin with the endpoints of the moment, not with those of Patroni's start."""

        def machines_from_config(client: Any) -> list[str]:
            return list(self._known()) or original(client)

        return machines_from_config

    def discovering(self, original: Discover) -> Discover:
        """Ask only them for the members: that one answers is all that counts of it."""

        def machines_list(client: Any, machines: list[str]) -> list[str]:
            known = list(self._known()) or machines
            original(client, known)
            return known

        return machines_list
