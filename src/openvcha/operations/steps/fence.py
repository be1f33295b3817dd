"""Fencing: the old node cannot take over, has no vote, and is powered off.

A node whose host cannot be reached cannot be powered off. Then the quorum fences it: without a vote
it keeps no lease and acknowledges nothing, and the step waits until all of its services are silent.
Should it come back, it is expelled (node/background/expulsion.py), and its VM is owed
(cluster/owed_deletions.py).
"""

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership, patroni_client, preconditions
from openvcha.cluster.config import NodeConfig, NodeKind
from openvcha.infrastructure.interface import Power
from openvcha.operations.context import Services
from openvcha.operations.preconditions import require_still
from openvcha.operations.steps.last_copy import last_copy
from openvcha.operations.steps.new_node import in_service
from openvcha.operations.steps.votes.quorum import (
    SILENT,
    SILENT_SECONDS,
    SilenceWatch,
    delete_account_without_vote,
    remove_voter,
)
from openvcha.operations.steps.votes.required_votes import record_required_votes
from openvcha.operations.waiting import POLL_SECONDS, wait_until
from openvcha.store import keys
from openvcha.tasks.steps import Step, TaskContext

FENCE_SECONDS = 30.0
PAUSE = 0.5
"""Between two probes of a node that cannot be powered off."""


class Fence(Step):
    """The step that revokes the old node's candidacy, removes its vote and powers it off.

    It removes the vote while the node may still run: with two voters left, both are needed to
    remove one. ``role`` is the new node's; the preconditions of ``operation`` are checked again.
    """

    name = "fence"
    weight = 3

    def __init__(self, services: Services, role: str, operation: str) -> None:
        self._services = services
        self._role = role
        self._silence = SilenceWatch(services)
        self._operation = operation

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the old node is fenced or gone, or its successor is in service."""
        old = await self._old(ctx)
        if old is None or await in_service(self._services, ctx, self._role):
            return True
        power = await self._power(old)
        if await self._threat(old, power):
            return False
        if not (power.certainly_off or SILENT in ctx.state):
            return False
        return old.member not in await self._services.store.accounts.list_names()

    async def act(self, ctx: TaskContext) -> None:
        """Check the preconditions again, then fence the old node."""
        old = await self._old(ctx)
        if old is None:
            return
        await ctx.progress(0.1, message("progress.fence", old.name))
        await self._require(old)
        await record_required_votes(self._services, ctx)
        certain = await self._power(old) is not Power.UNKNOWN
        seconds, pause = (FENCE_SECONDS, POLL_SECONDS) if certain else (SILENT_SECONDS, PAUSE)
        await wait_until(ctx, lambda: self._press(ctx, old), seconds, fraction=0.5, pause=pause)
        # From now on its successor may respond at its address.
        await ctx.remember(**{SILENT: True})

    async def undo(self, ctx: TaskContext) -> None:
        """Only complete the removal: the node was lost before, and a lost vote is not restored."""
        if old := await self._old(ctx):
            await delete_account_without_vote(self._services, old.member)

    async def _require(self, old: NodeConfig) -> None:
        """Refuse if the node is healthy again, leads, or may have the last copy of the data."""
        seen = await self._services.observe()
        data = old.kind is NodeKind.DATA
        refusal = last_copy(seen, old.member, old.name) if data else None
        require_still(refusal or preconditions.why_not(self._operation, seen))

    async def _press(self, ctx: TaskContext, old: NodeConfig) -> LocalizableMessage | None:
        """Do what is left to do; the caller repeats it, since the node may restart meanwhile."""
        services = self._services
        if old.kind is NodeKind.DATA and not await patroni_client.revoke_candidacy(
            services.store, old.member
        ):
            return message("fence.still.in.sync", old.name)
        await remove_voter(services, old.name, old.member)
        power = await self._power(old)
        if power is Power.ON:
            power = await services.infrastructure.power_off(old.vm)
        answers = await self._answers(ctx, old, power)
        await services.store.delete(keys.patroni_member(old.member))
        return await self._threat(old, await self._power(old)) or answers

    async def _answers(
        self, ctx: TaskContext, old: NodeConfig, power: Power
    ) -> LocalizableMessage | None:
        """Return why a node that cannot be powered off here may still run; None otherwise."""
        if power.certainly_off or SILENT in ctx.state:
            return None
        unmet = await self._silence.unmet(old)
        if unmet is None or not old.vm:
            return unmet
        return message("fence.unreachable", old.name, unmet.default_message)

    async def _threat(self, old: NodeConfig, power: Power) -> LocalizableMessage | None:
        store = self._services.store
        if power is Power.ON:
            return message("fence.powered.on", old.name)
        if await membership.find_member(store, old.member):
            return message("fence.still.votes", old.name)
        if old.member in (await patroni_client.sync_state(store)).standbys:
            return message("fence.still.in.sync", old.name)
        return None

    async def _power(self, old: NodeConfig) -> Power:
        """Return the node's power; that of a manual node is unknown here."""
        if not old.vm:
            return Power.UNKNOWN
        return (await self._services.infrastructure.node(old.vm)).power

    async def _old(self, ctx: TaskContext) -> NodeConfig | None:
        config = await self._services.observer.config()
        return config.node(str(ctx.state.get("old", "")))
