"""What every operation works with, put together once for each process that serves the API."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from openvcha.cluster.access import ClusterStore, PatroniAccess
from openvcha.cluster.observation import Observation
from openvcha.cluster.observe import Observer
from openvcha.infrastructure.protocol import Infrastructure
from openvcha.node.identity import Identity, url
from openvcha.tasks.journal import Journal


class Credentials(Protocol):
    """What lets the serving node in: its certificate, its authority, its passwords."""

    def authority(self) -> str:
        """Give the thumbprint of the authority that says who is a node."""

    def pending(self) -> bool:
        """Tell whether a renewal was asked for, and is not over."""

    async def renew(self) -> None:
        """Have all of it made anew; asked again meanwhile it is the same renewal."""


@dataclass(frozen=True)
class Services:
    """The parts of one serving node. ``directory`` is its own node directory."""

    store: ClusterStore
    patroni: PatroniAccess
    observer: Observer
    infrastructure: Infrastructure
    journal: Journal
    identity: Identity
    directory: Path
    credentials: Credentials
    data_bytes: Callable[[], Awaitable[int]]
    """How many bytes a copy of the protected data takes."""
    elsewhere: Callable[[], Awaitable[Sequence[Path]]]
    """Where the protected data lie outside of the node's own directory."""
    checkpoint: Callable[[str], Awaitable[None]]
    """Makes the PostgreSQL at an HA address write out what it holds in memory.

    Raises PostgresUnreachable.
    """

    async def observe(self) -> Observation:
        """Look at the cluster, with the operation that runs now."""
        running = await self.journal.running()
        return await self.observer.observe((running.operation_id, running.id) if running else None)

    def peer_url(self, ha_address: str) -> str:
        """Give the URL by which voters reach the etcd of a node."""
        return url(ha_address, self.identity.ports.etcd_peer)
