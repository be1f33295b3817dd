"""The public address of a data node: on an interface, or where a forwarder listens."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openvcha.daemon.leading.active_services import PublicAddress
from openvcha.daemon.leading.leader_proof import LeaderProof
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.public_address.listening import listens
from openvcha.infrastructure.local.switch_start import start_switch
from openvcha.node.address.client_limit import client_limit
from openvcha.node.address.forwarder import Forwarder
from openvcha.node.address.interface.client import HelperLink, InterfaceAddress
from openvcha.node.address.interface.lifetime import require_safe
from openvcha.node.address.thread import ForwarderThread
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.process.supervised_loop import Work
from openvcha.operations.context import Services
from openvcha.store.address_reports import AddressState


@dataclass(frozen=True)
class OwnAddress:
    """The public address, the proof of leadership that it needs, and its background work.

    ``obstacle`` returns why a node that does not lead could not hold it, where that is known.
    """

    address: PublicAddress
    proof: LeaderProof | None = None
    works: Mapping[str, Work] = field(default_factory=dict)
    obstacle: Callable[[], AddressState | None] | None = None


@asynccontextmanager
async def own_address(services: Services, term: LeaderTerm) -> AsyncIterator[OwnAddress]:
    """Prepare the public address of this node. Raises UnsafeLifetimeError."""
    identity = services.identity
    if identity.public is None:
        forwarder = _forwarder(identity, Layout(services.directory), term)
        async with ForwarderThread(forwarder) as running:
            yield OwnAddress(running)
        return
    require_safe(identity.public.lifetime, identity.timers.leader_ttl)
    proof = LeaderProof(services.store.lease_remaining, identity.timers.leader_ttl)
    address = InterfaceAddress(
        HelperLink(identity.public.helper),
        identity.public.interface,
        identity.public_address,
        lambda: proof.until,
    )
    works = {"address of the interface": address.keep, "helper of the address": address.watch}
    yield OwnAddress(address, proof, works, lambda: address.obstacle)


def _forwarder(identity: Identity, layout: Layout, term: LeaderTerm) -> Forwarder:
    port, take = identity.ports.postgres, listens(identity, term, start=start_switch)
    public, own = (identity.public_address, port), (identity.ha_address, port)
    return Forwarder(public, own, client_limit(layout), open_listener=lambda place: take(*place))
