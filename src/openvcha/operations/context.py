"""What every operation works with, put together once for each process that serves the API."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from openvcha.cluster.interface import ClusterStore, PatroniAccess
from openvcha.cluster.observation import Observation
from openvcha.cluster.observer import Observer
from openvcha.infrastructure.interface import Infrastructure
from openvcha.node.identity import Identity
from openvcha.node.postgres.cloning.clone_errors import ServerError
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.replay import Replay
from openvcha.node.process.supervised_loop import BackgroundFailures
from openvcha.store.node_facts import PostgresFacts
from openvcha.system.host_port import url
from openvcha.tasks.journal import Journal


class Credentials(Protocol):
    """What lets the serving node in: its certificate, its authority, its passwords."""

    def authority(self) -> str:
        """Return the thumbprint of the authority that says who is a node."""

    def pending(self) -> bool:
        """Return whether a renewal was asked for, and is not over."""

    def hindrance(self) -> str | None:
        """Return what is in the way of a renewal that is pending; None: nothing so far."""

    async def renew(self) -> None:
        """Have all of it made anew; asked again meanwhile it is the same renewal."""


class PostgresAccess(Protocol):
    """What operations ask of the PostgreSQL at an HA address: node.postgres.superuser.Superuser.

    Each raises PostgresUnreachable.
    """

    async def checkpoint(self, host: str) -> None:
        """Write out what it holds in memory."""

    async def position(self, host: str) -> int:
        """Return how far a primary has written, in bytes of the log."""

    async def replay(self, host: str) -> Replay:
        """Look how far a standby has replayed; a replay that somebody paused is resumed."""

    async def copy_error(self, since: datetime) -> ServerError | None:
        """Return what the own PostgreSQL said last of a copy, since then."""

    async def survey(self, host: str) -> PostgresFacts:
        """Look at what users have set in the own PostgreSQL."""

    async def missing_files(self, host: str) -> tuple[MissingFile, ...]:
        """Look what the databases of the own PostgreSQL use and is not installed."""

    async def rehearse_renewal(self, host: str) -> None:
        """Try whether the passwords of our roles can be changed, and take it back."""


async def _nothing() -> None:
    """Do nothing, where the store has no seals or no copy."""


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
    register: Callable[[Mapping[str, str]], Awaitable[None]]
    """Notes on the own disk, durably, the HA addresses of the nodes with data that are made."""
    elsewhere: Callable[[], Awaitable[Sequence[Path]]]
    """Where the protected data lie outside of the node's own directory."""
    postgres: PostgresAccess
    failing: BackgroundFailures = field(default_factory=BackgroundFailures)
    """The background work of this service that fails now."""

    mirror: Callable[[], Awaitable[None]] = _nothing
    """Keeps a copy of what is read most, until canceled; without it each read asks the store."""
    patrol: Callable[[], Awaitable[None]] = _nothing
    """Checks the records of the store until canceled, and puts back what the node keeps of them."""
    follow_roll: Callable[[], Awaitable[None]] = _nothing
    """Keeps beside the node, until canceled, who may do what, so that an old state is known."""

    async def observe(self) -> Observation:
        """Look at the cluster, with the operation that runs now."""
        return await self.observer.observe(await self._running())

    async def glance(self) -> Observation:
        """Return what was seen of the cluster just now, for who only shows it."""
        return await self.observer.glance(await self._running())

    async def _running(self) -> tuple[str, str] | None:
        running = await self.journal.running()
        return (running.operation_id, running.id) if running else None

    def peer_url(self, ha_address: str) -> str:
        """Return the URL by which voters reach the etcd of a node."""
        return url(ha_address, self.identity.ports.etcd_peer)
