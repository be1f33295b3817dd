"""The services that operations use, created once per process that serves the API."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from openvcha.cluster.interface import ClusterStore, PatroniAccess
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.observing.observer import Observer
from openvcha.infrastructure.interface import Infrastructure
from openvcha.node.identity import Identity
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.replay import Replay
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError
from openvcha.node.process.supervised_loop import BackgroundFailures
from openvcha.store.node_facts import PostgresFacts
from openvcha.system.network.host_port import url
from openvcha.tasks.journal import Journal


class NodeCredentials(Protocol):
    """The credentials of the serving node: certificate, authority, passwords."""

    def authority(self) -> str:
        """Return the thumbprint of the node CA."""

    def service_authority(self) -> str:
        """Return the SHA-256 thumbprint of the CA that clients of the API trust."""

    def pending(self) -> bool:
        """Return whether a requested rotation is not complete."""

    def obstacle(self) -> str | None:
        """Return what prevents a pending rotation; None: nothing so far."""

    async def renew(self) -> None:
        """Request a rotation of all credentials; during one, the request has no effect."""


class PostgresAccess(Protocol):
    """PostgreSQL at an HA address, for operations: node.postgres.superuser.Superuser.

    Each raises PostgresUnreachable.
    """

    async def checkpoint(self, host: str) -> None:
        """Run a checkpoint (on a standby: a restartpoint)."""

    async def position(self, host: str) -> int:
        """Return the write position of a primary, in bytes of the log."""

    async def replay(self, host: str) -> Replay:
        """Return the replay position of a standby; resume a paused replay."""

    async def base_backup_error(self, since: datetime) -> ServerError | None:
        """Return the last error about a base backup in our own PostgreSQL's log since that time."""

    async def inspect(self, host: str) -> PostgresFacts:
        """Return what users have changed in our own PostgreSQL."""

    async def missing_files(self, host: str) -> tuple[MissingFile, ...]:
        """Return the files that databases of our own PostgreSQL use, but that are not installed."""

    async def test_password_change(self, host: str) -> None:
        """Test whether the passwords of our roles can be changed; roll back."""


async def _nothing() -> None:
    """Do nothing: for a store without seals or mirror."""


@dataclass(frozen=True)
class Services:
    """The services of a serving node. ``directory`` is its own node directory."""

    store: ClusterStore
    patroni: PatroniAccess
    observer: Observer
    infrastructure: Infrastructure
    journal: Journal
    identity: Identity
    directory: Path
    credentials: NodeCredentials
    data_bytes: Callable[[], Awaitable[int]]
    """Returns the size of a base backup of the protected data, in bytes."""
    register: Callable[[Mapping[str, str]], Awaitable[None]]
    """Records the HA addresses of new data nodes durably on our own disk."""
    external_data: Callable[[], Awaitable[Sequence[Path]]]
    """Returns the paths of protected data outside of the node's own directory."""
    postgres: PostgresAccess
    administrator: Callable[[str], Awaitable[str | None]]
    """Returns the generation of an Administrator's password; None: no such Administrator."""
    requires_votes: Callable[[], bool]
    """Returns whether our own disk has a copy of the required votes."""
    failing: BackgroundFailures = field(default_factory=BackgroundFailures)
    """The background work of this service that is failing."""

    mirror: Callable[[], Awaitable[None]] = _nothing
    """Maintains a copy of frequently read keys until canceled; else each read goes to the store."""
    monitor_records: Callable[[], Awaitable[None]] = _nothing
    """Verifies the store's records until canceled, and restores those that the node keeps."""
    follow_roll: Callable[[], Awaitable[None]] = _nothing
    """Saves each new roll until canceled, so that an older state is detected."""

    async def observe(self) -> Observation:
        """Observe the cluster, with the running operation."""
        return await self.observer.observe(await self._running())

    async def observe_cached(self) -> Observation:
        """Return a recent observation, for display only."""
        return await self.observer.observe_cached(await self._running())

    async def _running(self) -> tuple[str, str] | None:
        running = await self.journal.running()
        return (running.operation_id, running.id) if running else None

    def peer_url(self, ha_address: str) -> str:
        """Return the peer URL of a node's etcd."""
        return url(ha_address, self.identity.ports.etcd_peer)
