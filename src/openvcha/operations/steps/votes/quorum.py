"""Removal of the vote of a node that is to stop, and proof that it has stopped."""

import asyncio

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import membership
from openvcha.cluster.config import NodeConfig
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.system.network.host_port import url
from openvcha.system.silence import SILENCE_SECONDS, Silence, prolonged
from openvcha.tasks.steps import TemporaryFailure

PROBE_SECONDS = 1.0
SILENT = "silent"
"""Key in a task's state: the nodes that cannot be powered off here were seen to be off."""
SILENT_SECONDS = 90.0
"""How long a step waits for such a silence: an administrator has to power the node off first."""


async def remove_voter(
    services: Services, name: str, member: str, peer_url: str | None = None
) -> None:
    """Remove a member, and check that the others know it is gone (``name`` is for people).

    The removed member itself may have responded to the request. If it stopped before another member
    learned of the removal, the others would wait for a vote that never comes. A witness's account
    is deleted last: a witness that still votes must be able to read. The caller's ``done`` and
    ``undo`` must not take a member without a vote but with an account for removed.
    Finds the member as ``membership.find_member`` does. Raises TemporaryFailure.
    """
    await membership.remove(services.store, member, peer_url)
    await services.store.refresh_endpoints()
    if await membership.find_member(services.store, member, peer_url):
        raise TemporaryFailure(message("fence.still.votes", name))
    await services.store.accounts.delete(member)


async def delete_account_without_vote(services: Services, member: str) -> None:
    """Delete the account of a witness whose vote is gone; idempotent."""
    if await membership.find_member(services.store, member) is None:
        await services.store.accounts.delete(member)


class SilenceWatch:
    """How long a node that cannot be powered off here has been silent, without a gap.

    A frozen or isolated node misses some probes and returns: only lasting silence of all its
    services counts as the node being off.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._silent: dict[str, Silence] = {}

    async def unmet(self, node: NodeConfig) -> LocalizableMessage | None:
        """Probe, and return what is missing; None once it has been silent long enough."""
        began = asyncio.get_running_loop().time()
        # Removed first: a probe that fails, or gets a response, discards the history.
        before = self._silent.pop(node.member, None)
        if await self._answers(node):
            return message("fence.still.answers", node.name, node.ha_address)
        silent = prolonged(before, began, asyncio.get_running_loop().time())
        self._silent[node.member] = silent
        if silent.lasted:
            return None
        return message("fence.silence", node.name, node.ha_address, f"{SILENCE_SECONDS:g}")

    async def _answers(self, node: NodeConfig) -> bool:
        """Return whether its etcd or its Patroni responds, or the store has its member key."""
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
