"""Patroni uses the same endpoints of the store as its node: only members that hold data.

Patroni 4.1 starts with the hosts in its configuration, requests the list of members from them, and
then uses all of those, with its account. With this patch it uses only the endpoints that the node's
own files name at that moment, including ones added after its start.
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
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    limit_endpoints(
        import_module("patroni.dcs.etcd"), NodeEndpoints(Layout(Path(sys.argv[1]).parent))
    )


def limit_endpoints(etcd: Any, known: Known) -> None:
    """Restrict Patroni's clients of the store to the URLs that ``known`` returns."""
    client, limits = etcd.AbstractEtcdClientWithFailover, EndpointLimits(known)
    client._get_machines_cache_from_config = limits.configured(  # noqa: SLF001 - there is no other handle
        client._get_machines_cache_from_config  # noqa: SLF001 - as above
    )
    client._get_machines_list = limits.discovering(client._get_machines_list)  # noqa: SLF001 - as above


class NodeEndpoints:
    """The endpoints in the node's files; the last ones while the files are unreadable."""

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


class EndpointLimits:
    """Replacements of two of Patroni's methods, restricted to the known endpoints."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def configured(self, original: Configured) -> Configured:
        """Start with the current endpoints, not with those from Patroni's start."""

        def machines_from_config(client: Any) -> list[str]:
            return list(self._known()) or original(client)

        return machines_from_config

    def discovering(self, original: Discover) -> Discover:
        """Request the list of members only from known endpoints, and return only these."""

        def machines_list(client: Any, machines: list[str]) -> list[str]:
            known = list(self._known()) or machines
            original(client, known)
            return known

        return machines_list
