"""The keeper of owed deletions: the active deletes the VMs of removed nodes once it can.

A host that was lost may come back with such a node on it. The node has no vote and is expelled from
its cluster by itself; here its VM is powered off and deleted.
"""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from openvcha.api.errors import ApiError
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.owed_deletions import OwedDeletion, owe, read_owed, settle
from openvcha.infrastructure.interface import Infrastructure
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.node_vms import HOST_SILENT, why_left
from openvcha.store import keys
from openvcha.store.errors import Fenced, RecordUnreadable, StoreUnavailable
from openvcha.store.interface import Compare, Store, value_is
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 15.0

_log = structlog.get_logger(__name__)


class DeletionKeeper:
    """Deletes what is owed, on the active node; ``member`` is this node."""

    def __init__(
        self,
        store: Store,
        infrastructure: Infrastructure,
        member: str,
        observe: Callable[[], Awaitable[Observation]],
    ) -> None:
        self._store = store
        self._infrastructure = infrastructure
        self._member = member
        self._observe = observe

    async def run(self) -> None:
        """Delete what is owed until canceled."""

        def failed(reason: str) -> None:
            _log.info("cannot delete owed VMs now", reason=reason)

        transient = (Fenced, RecordUnreadable, StoreUnavailable)
        await repeat(self.settle_all, POLL_SECONDS, transient=transient, failed=failed)

    async def settle_all(self) -> None:
        """Try each owed deletion once. Raises Fenced once another node leads, and StoreError."""
        for owed in await read_owed(self._store):
            reason = await self._delete(owed)
            if reason is None:
                _log.info("an owed VM is deleted", vm=owed.vm, name=owed.name)
                await settle(self._store, owed.vm, [self._leads])
            else:
                await owe(self._store, replace(owed, reason=reason), [self._leads])

    async def _delete(self, owed: OwedDeletion) -> str | None:
        """Delete a VM; return why it is left, or None if nothing is owed any more."""
        seen = await self._observe()
        if seen.leader != self._member:
            raise Fenced(f"{keys.PATRONI_LEADER}: another node leads")
        if any(node.config.vm == owed.vm for node in seen.nodes):
            _log.error("an owed VM is a node of the cluster; it is kept", vm=owed.vm)
            return None
        if owed.data and (refusal := last_copy(seen, owed.member, owed.name)):
            return refusal.reason.default_message
        try:
            return None if await self._infrastructure.delete(owed.vm) else HOST_SILENT
        except (ApiError, OSError) as error:
            return why_left(error)

    @property
    def _leads(self) -> Compare:
        """Return the condition that this node still leads."""
        return value_is(keys.PATRONI_LEADER, self._member.encode())
