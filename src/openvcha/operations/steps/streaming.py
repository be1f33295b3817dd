"""The standby streams and catches up, until Patroni's ``/sync`` names it: the step `join`."""

from functools import partial

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import mode_settings, patroni_client
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import NewNode, in_service, leads, recall, streams
from openvcha.operations.steps.patroni_settings import protect, protects
from openvcha.operations.waiting import wait_until
from openvcha.store import keys
from openvcha.store.node_facts import NodeFacts
from openvcha.store.records import readable
from openvcha.tasks.steps import Step, TaskContext, TemporaryFailure

STREAMING_SECONDS = 600.0
FINAL_STARTS = 4
"""This many consecutive failed starts for the same reason are final; one takes about 4 s."""


class AwaitStreaming(Step):
    """The step that waits until a failover to the node is possible; in DISABLED, until it streams.

    In DISABLED, the node stops its PostgreSQL once the configuration names it:
    daemon/keepers/postgres.py.
    """

    weight = 20

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role
        self.name = f"join.{role}"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether Patroni would accept the node in a failover."""
        if await in_service(self._services, ctx, self._role):
            return True
        unmet = await self._unmet(recall(ctx, self._role))
        return unmet is None and await protects(self._services)

    async def act(self, ctx: TaskContext) -> None:
        """Wait; once the standby streams, wake the leader's loop so that it need not poll.

        Raises ApiError ERROR with the node's own reason when its PostgreSQL does not start.
        """
        node = recall(ctx, self._role)
        # Without these settings no standby is ever in sync.
        await wait_until(ctx, partial(protect, self._services), STREAMING_SECONDS)
        await wait_until(ctx, lambda: self._unmet(node), STREAMING_SECONDS)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: the undo of CreateNode removes the standby."""

    async def _unmet(self, node: NewNode) -> LocalizableMessage | None:
        services = self._services
        name = node.placement.name
        if await leads(services, node):
            return None  # it has taken over already
        leader = await patroni_client.leader(services.store)
        sync = await patroni_client.sync_state(services.store)
        if sync.leader == leader and node.member in sync.standbys:
            return None
        if not await streams(services, node):
            return await self._trouble(node) or message("progress.join.catching.up", name)
        if keys.DETACHED in await mode_settings.requested(services.store):
            return None  # the mode DISABLED lets no standby be in sync
        waiting = message("progress.join.sync", name)
        try:
            await services.patroni.wake(services.identity.ha_address)
        except PatroniUnreachable as error:
            raise TemporaryFailure(waiting) from error
        return waiting

    async def _trouble(self, node: NewNode) -> LocalizableMessage | None:
        """Return the trouble that the node reports, if readable. Raises ApiError when final."""
        found = await self._services.store.get(keys.node_facts(node.member))
        reports = (facts for _, facts in readable([found] if found else [], NodeFacts))
        told = next((facts.trouble for facts in reports), None)
        if told is None:
            return None
        name = node.placement.name
        if not told.starts:
            return message("progress.join.not.streaming", name, told.reason)
        if told.times >= FINAL_STARTS:
            lines = [message("join.start.line", name, line) for line in told.lines]
            failed = message("join.start.failed", name, told.times, told.reason)
            raise ApiError(ErrorType.ERROR, failed, *lines)
        return message("progress.join.start.failed", name, told.reason)
