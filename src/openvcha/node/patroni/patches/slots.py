"""Patroni drops no replication slot that it did not create.

Patroni 4.1 drops each slot that no member needs, even that of a backup or a subscription. With this
patch it records the physical slots that it creates for members, and may drop only those, whatever
the names of others are. What it has dropped is recorded too, and becomes an event.
"""

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from openvcha.node.layout import Layout
from openvcha.node.postgres.member_slots import MemberSlots, MemberSlotsFile

Ignores = Callable[[Any, Any, str], bool]
Ensures = Callable[[Any, dict[str, Any], bool], None]
Drops = Callable[[Any, Any, dict[str, Any]], None]

PHYSICAL = "physical"
REPLACES = {
    "patroni.postgresql.slots:SlotsHandler.ignore_replication_slot": "ff66ea4e59429a43",
    "patroni.postgresql.slots:SlotsHandler._ensure_physical_slots": "d3072863ec05f498",
    "patroni.postgresql.slots:SlotsHandler._drop_incorrect_slots": "007ea608ef25394f",
}

_log = logging.getLogger(__name__)


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    handler: Any = import_module("patroni.postgresql.slots").SlotsHandler
    slot_of = import_module("patroni.dcs").slot_name_from_member_name
    own = OwnSlots(MemberSlotsFile(Layout(Path(sys.argv[1]).parent).member_slots), slot_of)
    handler.ignore_replication_slot = own.ignoring(handler.ignore_replication_slot)
    handler._ensure_physical_slots = own.ensuring(handler._ensure_physical_slots)  # noqa: SLF001 - there is no other handle
    handler._drop_incorrect_slots = own.dropping(handler._drop_incorrect_slots)  # noqa: SLF001 - as above


class OwnSlots:
    """The slots that Patroni has created on this node. ``slot_of`` names the slot of a member."""

    def __init__(self, file: MemberSlotsFile, slot_of: Callable[[str], str]) -> None:
        self._file = file
        self._slot_of = slot_of
        self._record = file.read()

    def ensuring(self, original: Ensures) -> Ensures:
        """Record the slots that are about to be created."""

        def ensure(self_: Any, slots: dict[str, Any], clean: bool) -> None:
            known = self_._replication_slots  # noqa: SLF001 - as above
            new = [
                name
                for name, slot in slots.items()
                if slot["type"] == PHYSICAL and name not in known
            ]
            self._keep(self._record.making(new))
            original(self_, slots, clean)

        return ensure

    def dropping(self, original: Drops) -> Drops:
        """Record which slots of former members were dropped."""

        def drop(self_: Any, cluster: Any, slots: dict[str, Any]) -> None:
            before = set(self_._replication_slots).intersection(self._record.made)  # noqa: SLF001 - as above
            original(self_, cluster, slots)
            for name in sorted(before.difference(self_._replication_slots, slots)):  # noqa: SLF001 - as above
                self._keep(self._record.dropping(name))

        return drop

    def ignoring(self, original: Ignores) -> Ignores:
        """Ignore what ``original`` ignores, and all slots that were not created for members."""

        def ignore(self_: Any, cluster: Any, name: str) -> bool:
            slot = self_._replication_slots.get(name, {})  # noqa: SLF001 - as above
            return (
                slot.get("type") != PHYSICAL
                or not self._is_member_s(cluster, name)
                or original(self_, cluster, name)
            )

        return ignore

    def _is_member_s(self, cluster: Any, name: str) -> bool:
        """Return whether Patroni created a slot; those of current members need no record."""
        return name in self._record.made or name in {
            self._slot_of(member.name) for member in cluster.members
        }

    def _keep(self, record: MemberSlots) -> None:
        """Replace the record; a disk that is full must not prevent replication."""
        if record == self._record:
            return
        self._record = record
        try:
            self._file.write(record)
        except OSError as error:
            _log.warning("cannot record the slots of members: %s", error)
