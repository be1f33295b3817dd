"""Taking a vote from a node that is about to end."""

from openvcha.api.messages import message
from openvcha.cluster import membership
from openvcha.cluster.patroni import PatroniUnreachable
from openvcha.node.identity import url
from openvcha.service.context import Services
from openvcha.tasks.steps import Temporary

PROBE_SECONDS = 1.0


async def take_vote(
    services: Services, name: str, member: str, peer_url: str | None = None
) -> None:
    """Remove a member, and see that those who stay know it (``name`` is for people).

    The member itself may have been the one that answered. To end it before another one has heard
    of the removal would leave the others waiting for a vote that never comes.
    Finds the member as ``membership.find`` does. Raises Temporary.
    """
    await membership.remove(services.store, member, peer_url)
    await services.store.refresh_endpoints()
    if await membership.find(services.store, member, peer_url):
        raise Temporary(message("fence.still.votes", name))


async def answers(services: Services, ha_address: str) -> bool:
    """Tell whether the etcd or the Patroni of a node still answers."""
    endpoint = url(ha_address, services.identity.ports.etcd_client)
    if await services.store.healthy(endpoint, PROBE_SECONDS):
        return True
    try:
        await services.patroni.node(ha_address)
    except PatroniUnreachable:
        return False
    return True
