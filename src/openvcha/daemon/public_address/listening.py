"""How the service and the API listen at the public address of the loopback lab.

There all nodes share one machine, and a frozen active would keep its listening sockets. So the
switch of the `local` infrastructure listens for them; the revision of the leader key is the token.
On any other infrastructure they bind the address themselves.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from openvcha.api_server.server.listening import STOP_SECONDS, Listener, listen_directly
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.infrastructure.local.switch_client import Start, SwitchClient
from openvcha.node.identity import Identity

API_DRAIN_SECONDS = STOP_SECONDS + 1.0
"""For requests that run when another node takes the address."""

Listen = Callable[[str, int], Awaitable[Listener]]


def local_root(identity: Identity) -> Path | None:
    """Return the root of the `local` infrastructure that the node runs on; None on another one."""
    if identity.infrastructure.get("kind") != "local":
        return None
    return Path(str(identity.infrastructure["root"]))


def listens(
    identity: Identity, term: LeaderTerm, *, drain: float = 0.0, start: Start | None = None
) -> Listen:
    """Return what listens at the public address of a node.

    ``drain``: for how many seconds connections may last after another node has taken the address.
    ``start`` starts the switch if none runs.
    """
    root = local_root(identity)
    if root is None or identity.public is not None:
        return listen_directly
    client = SwitchClient(root, start)

    async def take(address: str, port: int) -> Listener:
        place, token = (address, port), term.revision
        return await client.take(place, token, holder=identity.name, drain=drain)

    return take
