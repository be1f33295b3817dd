"""The keeper of the inventory's copy: the store has what the active can read of the inventory.

The inventory of the local infrastructure is a file of one machine. A node that does not see that
machine's files still shows where the nodes are, from this copy.
"""

from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import VmPowerState
from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.records import SeenInventory, seen_record
from openvcha.store import keys
from openvcha.store.errors import Fenced, RecordMissing, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import Store, value_is
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog
from openvcha.tasks.journal import utc_now

POLL_SECONDS = 15.0

_log = structlog.get_logger(__name__)


class InventoryKeeper:
    """Keeps the copy on the active node; ``member`` is this node."""

    def __init__(
        self,
        store: Store,
        infrastructure: Infrastructure,
        member: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._infrastructure = infrastructure
        self._guards = [value_is(keys.PATRONI_LEADER, member.encode())]
        self._clock = clock
        self._written: Inventory | None = None

    async def run(self) -> None:
        """Keep the copy until canceled."""

        def failed(reason: str) -> None:
            _log.info("cannot copy the inventory now", reason=reason)

        transient = (Fenced, StoreUnavailable)
        await repeat(self.copy, POLL_SECONDS, transient=transient, failed=failed)

    async def copy(self) -> None:
        """Write the copy if the inventory has changed since the last one. Raises StoreError."""
        try:
            now = unmeasured(await self._infrastructure.inventory())
        except ApiError as error:
            if error.error_type is ErrorType.RESOURCE_INACCESSIBLE:
                return
            raise
        if now == self._written:
            return
        await self._write(SeenInventory(seen=self._clock(), inventory=now))
        self._written = now

    async def _write(self, wanted: SeenInventory) -> None:
        record = seen_record(self._store)
        while True:
            try:
                await record.update(
                    lambda old: old if old.inventory == wanted.inventory else wanted,
                    guards=self._guards,
                    idempotent=True,
                )
            except RecordMissing:
                await record.create(wanted, guards=self._guards)
            except RecordUnreadable:
                await record.delete(guards=self._guards)
            else:
                return


def unmeasured(inventory: Inventory) -> Inventory:
    """Return an inventory without what changes all the time: free space and power."""
    return replace(
        inventory,
        age=0.0,
        vms=tuple(replace(vm, power_state=VmPowerState.POWERED_OFF) for vm in inventory.vms),
        datastores=tuple(replace(one, capacity=0, free_space=0) for one in inventory.datastores),
    )
