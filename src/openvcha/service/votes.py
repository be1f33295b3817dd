"""Taking a vote from a node that is about to end, and seeing that it has ended."""

import asyncio

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.patroni import PatroniUnreachable
from openvcha.node.identity import url
from openvcha.service.context import Services
from openvcha.store import keys
from openvcha.tasks.steps import Temporary

PROBE_SECONDS = 1.0
SILENT = "silent"
"""In a task's state: those whom nobody here can switch off have been seen to be off."""
SILENCE_SECONDS = 30.0
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


class Silence:
    """How long a node that nobody here can switch off has not answered, without a break.

    A frozen or cut-off node misses some looks and comes back: only lasting silence of everything
    that it has is taken for its end.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._since: dict[str, float] = {}

    async def unmet(self, node: NodeConfig) -> LocalizableMessage | None:
        """Look, and return what is waited for still; None once it has been silent long enough."""
        clock, began = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
        if await self._answers(node):
            self._since.pop(node.member, None)
            return message("fence.still.answers", node.name, node.ha_address)
        since = self._since.setdefault(node.member, began)
        if clock() - since >= SILENCE_SECONDS:
            return None
        return message("fence.silence", node.name, node.ha_address, f"{SILENCE_SECONDS:g}")

    async def _answers(self, node: NodeConfig) -> bool:
        """Tell whether anything of it answers: its etcd, its Patroni, its entry in the store."""
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
