"""The public address of a data node: on an interface, or where a forwarder listens."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openvcha.daemon.active_services import PublicAddress
from openvcha.daemon.leader_proof import LeaderProof
from openvcha.node.address.client_limit import client_limit
from openvcha.node.address.forwarder import Forwarder
from openvcha.node.address.interface.client import HelperLink, InterfaceAddress
from openvcha.node.address.interface.lifetime import require_safe
from openvcha.node.address.thread import ForwarderThread
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.process.supervised_loop import Work
from openvcha.operations.context import Services


@dataclass(frozen=True)
class OwnAddress:
    """The public address, the proof of leadership that it needs, and its background work."""

    address: PublicAddress
    proof: LeaderProof | None = None
    works: Mapping[str, Work] = field(default_factory=dict)


@asynccontextmanager
async def own_address(services: Services) -> AsyncIterator[OwnAddress]:
    """Prepare the public address of this node. Raises UnsafeLifetimeError."""
    identity = services.identity
    if identity.public is None:
        async with ForwarderThread(_forwarder(identity, Layout(services.directory))) as forwarder:
            yield OwnAddress(forwarder)
        return
    require_safe(identity.public.lifetime, identity.timers.leader_ttl)
    proof = LeaderProof(services.store.lease_remaining, identity.timers.leader_ttl)
    address = InterfaceAddress(
        HelperLink(identity.public.helper),
        identity.public.interface,
        identity.public_address,
        lambda: proof.until,
    )
    yield OwnAddress(address, proof, {"address of the interface": address.keep})


def _forwarder(identity: Identity, layout: Layout) -> Forwarder:
    port = identity.ports.postgres
    public, own = (identity.public_address, port), (identity.ha_address, port)
    return Forwarder(public, own, client_limit(layout))
