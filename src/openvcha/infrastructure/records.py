"""An inventory in the cluster's store, for infrastructures that have no inventory of their own.

It is one record: a change checks what it refers to (unique names, known identifiers, a token's VM)
and replaces the whole by compare-and-set. All data nodes see it, and only they can write it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from openvcha.api.prepared import prepare
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.skeleton import skeleton
from openvcha.infrastructure.state import State, require_room
from openvcha.store import keys
from openvcha.store.errors import RecordMissing, RecordUnreadable
from openvcha.store.interface import Store
from openvcha.store.records import Record

FIRST_NUMBER = 11
"""The numbers below are those of the skeleton."""

ResultT = TypeVar("ResultT")


class InventoryRecord:
    """The inventory in the store; hosts, networks, datastores and VMs are added by ``change``."""

    def __init__(self, store: Store) -> None:
        self._record = Record(store, keys.INVENTORY, State)

    async def load(self) -> State:
        """Return the state; without one, that of an inventory without hosts.

        Raises StoreError, RecordUnreadable.
        """
        return await self._record.get() or _first()

    async def load_or_copy(self) -> State:
        """Return the state, as ``load``: there is no copy."""
        return await self.load()

    async def change(
        self, step: Callable[[State], tuple[State, ResultT]], *, idempotent: bool = False
    ) -> ResultT:
        """Replace the state by that of ``step``, and return its result.

        ``step`` is a pure function (infrastructure/changes.py), called again when another writer
        was faster. ``idempotent``: it finds its own effect, so it is repeated after an unknown
        outcome; otherwise OutcomeUnknown is raised. Raises StoreError, RecordUnreadable, and
        ApiError from ``step`` or UNABLE_TO_ALLOCATE_RESOURCE for too many items.
        """
        results: list[ResultT] = []

        def changed(state: State) -> State:
            after, result = step(state)
            if after != state:
                require_room(after)
            results.append(result)
            return after

        while True:
            try:
                await self._record.update(changed, idempotent=idempotent)
            except RecordMissing:
                await self._record.create(_first())
            else:
                return results[-1]


class SeenInventory(msgspec.Struct, kw_only=True, frozen=True):
    """A copy of an inventory that not every node can read: as it was at ``seen``."""

    seen: datetime
    inventory: Inventory


def seen_record(store: Store) -> Record[SeenInventory]:
    """Return the record of the copy."""
    return Record(store, keys.SEEN_INVENTORY, SeenInventory)


async def read_seen(store: Store, now: datetime) -> Inventory | None:
    """Return the copy, which says how old it is; None if there is none that can be read."""
    try:
        found = await seen_record(store).get()
    except RecordUnreadable:
        return None
    if found is None:
        return None
    return replace(found.inventory, age=max(0.0, (now - found.seen).total_seconds()))


def _first() -> State:
    return State(next_number=FIRST_NUMBER, inventory=skeleton())


prepare(__name__)
