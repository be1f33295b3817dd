"""Three of Patroni's methods, extended for the modes of a cluster.

They add two settings to its dynamic configuration. ``openvcha_detached``: a standby asks not to be
synchronous, with Patroni's own tag for that. ``openvcha_alone``: while Patroni is paused and the
store does not respond, the primary stops waiting for a standby that does not stream. The member
shows both as tags, so that other nodes see when its Patroni applies them.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.store.keys import ALONE, DETACHED

_log = logging.getLogger(__name__)

Tags = Callable[[Any], dict[str, Any]]
Answer = Callable[[Any], str]

REPLACES = {
    "patroni.ha:Ha.get_effective_tags": "f3f9029bd1bb4733",
    "patroni.ha:Ha._handle_dcs_error": "b34e6f11aec79e23",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    _, module = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    ha = module.Ha
    ha.get_effective_tags = with_setting_tags(ha.get_effective_tags)
    ha._handle_dcs_error = with_release(ha._handle_dcs_error)  # noqa: SLF001 - there is no other handle


def with_setting_tags(original: Tags) -> Tags:
    """Add the settings that this Patroni applies to its tags."""

    def tags(self: Any) -> dict[str, Any]:
        found = {name: True for name in (ALONE, DETACHED) if _setting(self, name)}
        detached = {"nosync": True, "sync_priority": 0} if DETACHED in found else {}
        return {**original(self), **found, **detached}

    return tags


def with_release(original: Answer) -> Answer:
    """Release an active that may continue alone, even if it lost the standby with the store."""

    def handle(self: Any) -> str:
        answer = original(self)
        if self.is_paused() and _setting(self, ALONE) and self.state_handler.is_primary():
            _release(self)
        return answer

    return handle


def _release(high_availability: Any) -> None:
    """Stop waiting for an absent standby. Once the store is back, Patroni corrects ``/sync``."""
    handler = high_availability.state_handler.sync_handler
    found = handler.current_state(high_availability.cluster)
    if found.sync and not found.active:
        _log.warning("continuing without the synchronous standby %s", ", ".join(found.sync))
        handler.set_synchronous_standby_names(type(found.sync)())


def _setting(high_availability: Any, name: str) -> bool:
    cluster = high_availability.cluster
    config = cluster.config if cluster else None
    return bool(config and config.data.get(name))
