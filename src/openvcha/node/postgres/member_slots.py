"""The node's record of the replication slots that Patroni has created here for members.

A name alone does not show whose a slot is: a user's may have the form of a member's. Slots belong
to one node, and neither a base backup nor a rewind copies them; so does this record.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.system.files.durable import write_durably

MAX_DROPPED = 20


class MemberSlots(msgspec.Struct, frozen=True, kw_only=True):
    """Names of physical slots: ``made`` for members, and the last ``dropped`` ones of these."""

    made: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def making(self, names: Collection[str]) -> "MemberSlots":
        """Return the record with slots that are about to be created."""
        dropped = tuple(name for name in self.dropped if name not in names)
        return MemberSlots(made=tuple(sorted({*self.made, *names})), dropped=dropped)

    def dropping(self, name: str) -> "MemberSlots":
        """Return the record without a slot of a former member."""
        made = tuple(each for each in self.made if each != name)
        return MemberSlots(made=made, dropped=(*self.dropped, name)[-MAX_DROPPED:])


@dataclasses.dataclass(frozen=True)
class MemberSlotsFile:
    """The record on disk; Patroni's process writes it, others read it."""

    path: Path

    def read(self) -> MemberSlots:
        """Return the record; without one that can be read, all slots count as users'."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=MemberSlots)
        except (OSError, msgspec.DecodeError):
            return MemberSlots()

    def write(self, record: MemberSlots) -> None:
        """Replace the record durably. Raises OSError."""
        write_durably(self.path, msgspec.json.encode(record))


prepare(__name__)
