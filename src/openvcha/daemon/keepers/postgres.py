"""The keeper of a data node's PostgreSQL in the state that the mode needs while Patroni is paused.

A paused Patroni neither starts nor stops PostgreSQL. Without this, a node that was powered off, or
whose PostgreSQL crashed, would stay down, and the standby of a DISABLED cluster would stay up.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from openvcha.cluster import leader_key, patroni_client
from openvcha.cluster import mode_settings as settings
from openvcha.cluster.config import cluster_record
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.store import keys
from openvcha.store.errors import RecordInvalid, StoreError
from openvcha.store.interface import Store
from openvcha.store.patroni.rest import PatroniNode
from openvcha.store.patroni.state import SyncState
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS = 1.0
IDLE_SECONDS = 3.0
"""While Patroni is not paused and manages PostgreSQL itself."""

_log = structlog.get_logger(__name__)


class PatroniControl(Protocol):
    """The part of Patroni's client that the keeper uses."""

    async def node(self, address: str) -> PatroniNode:
        """Return the state of one node. Raises PatroniUnreachable."""

    async def start(self, address: str) -> None:
        """Start PostgreSQL. Raises PatroniUnreachable."""


class PostgresControl(Protocol):
    """The part of node.postgres.server.LocalPostgres that the keeper uses."""

    @property
    def standby(self) -> bool:
        """Return whether the data directory is a standby's."""

    async def stop(self) -> bool:
        """Stop PostgreSQL, and return whether it has stopped. Raises OSError."""


class PostgresAction(Enum):
    """What to do with the node's own PostgreSQL."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True)
class NodeSituation:
    """The facts for a decision; the node's own state was read before the leader."""

    member: str
    node: PatroniNode
    standby: bool
    settings: frozenset[str]
    configured: bool
    """Whether the cluster's configuration names the node; a new one is not in it yet."""
    leader: str | None
    sync: SyncState
    """Its leader is the last primary: Patroni writes it before a node is promoted."""
    failover_pending: bool
    """Whether a failover to some member is requested."""


def decide(at: NodeSituation) -> PostgresAction | None:
    """Return what to do with the node's PostgreSQL. It never creates a second primary.

    A primary's data directory is started only if no other node leads, this node was the last
    primary, and no takeover is pending. Otherwise it is left alone.
    """
    if keys.PAUSE not in at.settings:
        return None
    led_by_another = at.leader not in {None, at.member}
    out_of_service = keys.DETACHED in at.settings and at.configured
    if at.node.primary:
        return PostgresAction.STOP if led_by_another else None
    if at.node.stopped:
        if at.standby:
            return None if out_of_service else PostgresAction.START
        ours = at.sync.leader == at.member and not led_by_another and not at.failover_pending
        return PostgresAction.START if ours else None
    # While this node may take over, the primary waits for it, and it may become the primary.
    dispensable = led_by_another and at.member not in at.sync.standbys
    replica = at.standby and at.node.replica
    return PostgresAction.STOP if replica and out_of_service and dispensable else None


class PostgresKeeper:
    """The keeper of one node: during a pause it decides and acts once a second."""

    def __init__(
        self, store: Store, client: PatroniControl, own: PostgresControl, member: str, address: str
    ) -> None:
        self._store = store
        self._patroni = client
        self._own = own
        self._member = member
        self._address = address

    async def run(self) -> None:
        """Check and act until canceled; retry after failures."""

        async def poll() -> float:
            return POLL_SECONDS if await self.run_once() else IDLE_SECONDS

        def failed(reason: str) -> None:
            _log.warning("cannot manage PostgreSQL now", reason=reason)

        transient = (StoreError, PatroniUnreachable, OSError)
        await repeat(poll, POLL_SECONDS, transient=transient, failed=failed)

    async def run_once(self) -> bool:
        """Decide and act once; return whether Patroni should be paused.

        Raises StoreError, PatroniUnreachable, OSError.
        """
        # CLUSTER is read in every mode: the node keeps a copy in case the record is deleted.
        _, dynamic = await self._store.get_many((keys.CLUSTER, keys.PATRONI_CONFIG))
        wanted = settings.parse(dynamic).on
        if keys.PAUSE not in wanted:
            return False
        situation = await self._without_void_request(await self._situation(wanted))
        action = decide(situation)
        if action is PostgresAction.START:
            _log.info("PostgreSQL is down in a mode that needs it up; starting it")
            await self._patroni.start(self._address)
        elif action is PostgresAction.STOP:
            stopped = await self._own.stop()
            _log.info("PostgreSQL is up in a mode that needs it down", stopped=stopped)
        return True

    async def _without_void_request(self, at: NodeSituation) -> NodeSituation:
        """Return the situation without a failover request that nobody can follow.

        It would keep this PostgreSQL down: a request to a lost node, or an unreadable one.
        """
        free = replace(at, failover_pending=False)
        held = at.failover_pending and decide(free) is PostgresAction.START
        if not held or at.standby:
            return at
        if await leader_key.drop_stale_request(self._store):
            _log.info("withdrawing a failover to a member that does not respond")
            return at  # start at the next check, which reads the state again
        if await leader_key.void_unreadable_request(self._store, at.member):
            _log.warning("ignoring an unreadable request", key=keys.PATRONI_FAILOVER)
            return free
        return at

    async def _failover_pending(self) -> bool:
        """Return whether a failover is requested; an unreadable request may have replaced one."""
        try:
            return await leader_key.is_pending(self._store)
        except RecordInvalid:
            return True

    async def _situation(self, wanted: frozenset[str]) -> NodeSituation:
        node = await self._patroni.node(self._address)
        sync = await patroni_client.sync_state(self._store)
        config = await cluster_record(self._store).get()
        return NodeSituation(
            member=self._member,
            node=node,
            standby=self._own.standby,
            settings=wanted,
            configured=config is not None and config.node(self._member) is not None,
            failover_pending=await self._failover_pending(),
            sync=sync,
            leader=await patroni_client.leader(self._store),
        )
