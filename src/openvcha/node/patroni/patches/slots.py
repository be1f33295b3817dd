"""Patroni drops no replication slot that it did not create.

Patroni 4.1 drops each slot that no member needs, even that of a backup or a subscription. With this
patch it may drop only the slots of former members, which it recognizes by the end of their names.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.node.postgres.own_names import is_member_slot

Ignores = Callable[[Any, Any, str], bool]

REPLACES = {
    "patroni.postgresql.slots:SlotsHandler.ignore_replication_slot": "ff66ea4e59429a43",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    handler: Any = import_module("patroni.postgresql.slots").SlotsHandler
    handler.ignore_replication_slot = ignoring_foreign_slots(handler.ignore_replication_slot)


def ignoring_foreign_slots(original: Ignores) -> Ignores:
    """Ignore what ``original`` ignores, and all slots that do not belong to members."""

    def ignore_replication_slot(self: Any, cluster: Any, name: str) -> bool:
        return not is_member_slot(name) or original(self, cluster, name)

    return ignore_replication_slot
