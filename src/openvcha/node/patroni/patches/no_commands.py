"""Patroni takes no commands from the store.

Patroni 4.1 reads its dynamic configuration, from etcd and from the copy that it keeps beside the
data, through two methods. Both accept only what ``store.patroni.dynamic`` allows.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.store.patroni.dynamic import sift

_log = logging.getLogger(__name__)

FromNode = Callable[..., Any]
SetDynamic = Callable[[Any, Any], bool]

REPLACES = {
    "patroni.dcs:ClusterConfig.from_node": "36bf6257b992ac48",
    "patroni.config:Config.set_dynamic_configuration": "ddaca04f88d15061",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    dcs, config = (import_module(name) for name in ("patroni.dcs", "patroni.config"))
    guard = DynamicConfigGuard()
    cluster_config, whole = dcs.ClusterConfig, config.Config
    cluster_config.from_node = staticmethod(guard.reading(cluster_config.from_node))
    whole.set_dynamic_configuration = guard.setting(whole.set_dynamic_configuration)


class DynamicConfigGuard:
    """A guard that passes allowed settings, and logs the refused ones whenever they change."""

    def __init__(self) -> None:
        self._told: tuple[str, ...] = ()

    def reading(self, original: FromNode) -> FromNode:
        """Accept the allowed settings from the store."""

        def from_node(version: Any, value: str, modify_version: Any = None) -> Any:
            found = original(version, value, modify_version)
            return found._replace(data=self._allowed(found.data))

        return from_node

    def setting(self, original: SetDynamic) -> SetDynamic:
        """Accept the allowed settings from the local copy."""

        def set_dynamic_configuration(self_: Any, configuration: Any) -> bool:
            plain = isinstance(configuration, dict)
            return original(self_, self._allowed(configuration) if plain else configuration)

        return set_dynamic_configuration

    def _allowed(self, fields: dict[str, Any]) -> dict[str, Any]:
        sifted = sift(fields)
        if sifted.refused != self._told:
            self._told = sifted.refused
            if sifted.refused:
                names = ", ".join(ascii(name) for name in sifted.refused)
                _log.warning("ignoring these settings of the dynamic configuration: %s", names)
        return sifted.kept
