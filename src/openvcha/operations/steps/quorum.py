"""Taking a vote from a node that is about to end, and seeing that it has ended."""

import asyncio
from dataclasses import dataclass

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.system.host_port import url
from openvcha.tasks.steps import Temporary

PROBE_SECONDS = 1.0
SILENT = "silent"
"""In a task's state: those whom nobody here can switch off have been seen to be off."""
SILENCE_SECONDS = 30.0
BREAK_SECONDS = 10.0
"""Longer than a task lets pass before it looks again (5 s), and than that look takes."""
LEAST_LOOKS = 6
SILENT_SECONDS = 90.0
"""How long a step waits for such a silence: a person has to switch the node off first."""


async def take_vote(
    services: Services, name: str, member: str, peer_url: str | None = None
) -> None:
    """Remove a member, and see that those who stay know it (``name`` is for people).

    The member itself may have been the one that answered. To end it before another one has heard
    of the removal would leave the others waiting for a vote that never comes. A witness's account
    goes first: who has no vote is not asked about again.
    Finds the member as ``membership.find`` does. Raises Temporary.
    """
    await services.store.accounts.forget(member)
    await membership.remove(services.store, member, peer_url)
    await services.store.refresh_endpoints()
    if await membership.find(services.store, member, peer_url):
        raise Temporary(message("fence.still.votes", name))


@dataclass(frozen=True)
class _Silent:
    """Looks in a row without an answer: when the first began, and the last ended, in seconds."""

    since: float
    last: float
    looks: int


def _goes_on(before: _Silent | None, began: float, ended: float) -> _Silent:
    """Add a look without an answer; after a break it is the first one, and counts from its end."""
    if ended - (before.last if before else began) > BREAK_SECONDS:
        return _Silent(ended, ended, 1)
    if before is None:
        return _Silent(began, ended, 1)
    return _Silent(before.since, ended, before.looks + 1)


class Silence:
    """How long a node that nobody here can switch off has not answered, without a break.

    A frozen or cut-off node misses some looks and comes back: only lasting silence of everything
    that it has is taken for its end.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._silent: dict[str, _Silent] = {}

    async def unmet(self, node: NodeConfig) -> LocalizableMessage | None:
        """Look, and return what is waited for still; None once it has been silent long enough."""
        began = asyncio.get_running_loop().time()
        # Taken out: of a look that fails, or finds an answer, nothing of before is left.
        before = self._silent.pop(node.member, None)
        if await self._answers(node):
            return message("fence.still.answers", node.name, node.ha_address)
        silent = _goes_on(before, began, asyncio.get_running_loop().time())
        self._silent[node.member] = silent
        if silent.last - silent.since >= SILENCE_SECONDS and silent.looks >= LEAST_LOOKS:
            return None
        return message("fence.silence", node.name, node.ha_address, f"{SILENCE_SECONDS:g}")

    async def _answers(self, node: NodeConfig) -> bool:
        """Return whether anything of it answers: its etcd, its Patroni, its entry in the store."""
        endpoint = url(node.ha_address, self._services.identity.ports.etcd_client)
        if await self._services.store.healthy(endpoint, PROBE_SECONDS):
            return True
        if await self._services.store.get(keys.patroni_member(node.member)) is not None:
            return True
        try:
            await self._services.patroni.node(node.ha_address)
        except PatroniUnreachable:
            return False
        return True
