"""Keeping a data node's PostgreSQL as the mode wants it, while Patroni is paused.

A paused Patroni neither starts nor stops PostgreSQL. So a node that was off, or whose PostgreSQL
broke, would stay down, and nobody would stop the standby of a DISABLED cluster.
"""

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from openvcha.cluster import leader_key, patroni_client
from openvcha.cluster import mode_settings as settings
from openvcha.cluster.config import cluster_record
from openvcha.cluster.patroni_client import PatroniNode, PatroniUnreachable, SyncState
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.structlog_light import structlog

LOOK_SECONDS = 1.0
IDLE_SECONDS = 3.0
"""While Patroni is not paused, and looks after PostgreSQL itself."""
STOPPED = "stopped"

_log = structlog.get_logger(__name__)


class Starter(Protocol):
    """What the keeper needs of Patroni."""

    async def node(self, address: str) -> PatroniNode:
        """Ask one node for its state. Raises PatroniUnreachable."""

    async def start(self, address: str) -> None:
        """Have PostgreSQL started. Raises PatroniUnreachable."""


class OwnPostgres(Protocol):
    """What the keeper needs of its node: node.postgres.server.LocalPostgres."""

    @property
    def standby(self) -> bool:
        """Return whether the data are a standby's."""

    async def stop(self) -> bool:
        """Stop it, and return whether it has stopped. Raises OSError."""


class Order(Enum):
    """What is to be done with the own PostgreSQL."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True)
class Situation:
    """What a node knows when it decides; its own state was looked at before who leads."""

    member: str
    node: PatroniNode
    standby: bool
    settings: frozenset[str]
    configured: bool
    """Whether the cluster's configuration names the node; a new one still has to show itself."""
    leader: str | None
    sync: SyncState
    """Its leader is the last who led: Patroni writes that before a node becomes primary."""
    handing_over: bool
    """Whether a failover to somebody is asked for."""


def decide(at: Situation) -> Order | None:
    """Return what to do with the own PostgreSQL. Never lets there be a second primary.

    Data of a primary are started only where nobody else leads, where the last who led was this
    node, and where nobody is about to take over; whatever else they hold, they stay as they are.
    """
    if keys.PAUSE not in at.settings:
        return None
    led_by_another = at.leader not in {None, at.member}
    out_of_service = keys.DETACHED in at.settings and at.configured
    if at.node.primary:
        return Order.STOP if led_by_another else None
    if at.node.state == STOPPED:
        if at.standby:
            return None if out_of_service else Order.START
        ours = at.sync.leader == at.member and not led_by_another and not at.handing_over
        return Order.START if ours else None
    # While it may take over the primary waits for it, and it may be the one to go on.
    dispensable = led_by_another and at.member not in at.sync.standbys
    replica = at.standby and at.node.role == "replica"
    return Order.STOP if replica and out_of_service and dispensable else None


class Keeper:
    """Looks once a second under a pause and does what is to be done, on one node."""

    def __init__(
        self, store: Store, client: Starter, own: OwnPostgres, member: str, address: str
    ) -> None:
        self._store = store
        self._patroni = client
        self._own = own
        self._member = member
        self._address = address

    async def run(self) -> None:
        """Keep at it until canceled; what cannot be done now is tried again."""
        shown = None
        while True:
            paused = True
            try:
                paused = await self.look()
                shown = None
            except (StoreError, PatroniUnreachable, OSError) as error:
                if str(error) != shown:
                    shown = str(error)
                    _log.warning("cannot manage PostgreSQL now", reason=shown)
            await asyncio.sleep(LOOK_SECONDS if paused else IDLE_SECONDS)

    async def look(self) -> bool:
        """Decide once, and act; return whether Patroni is to be paused.

        Raises StoreError, PatroniUnreachable, OSError.
        """
        # The first one in every mode: what is read is kept by the node, for when it is deleted.
        _, dynamic = await self._store.several((keys.CLUSTER, keys.PATRONI_CONFIG))
        wanted = settings.looked(dynamic).on
        if keys.PAUSE not in wanted:
            return False
        situation = await self._situation(wanted)
        await self._forget_the_dead(situation)
        order = decide(situation)
        if order is Order.START:
            _log.info("PostgreSQL is down in a mode that needs it up; starting it")
            await self._patroni.start(self._address)
        elif order is Order.STOP:
            stopped = await self._own.stop()
            _log.info("PostgreSQL is up in a mode that needs it down", stopped=stopped)
        return True

    async def _forget_the_dead(self, at: Situation) -> None:
        """Delete the wish for a lost node that would keep the own PostgreSQL down."""
        held = at.handing_over and decide(replace(at, handing_over=False)) is Order.START
        if held and not at.standby and await leader_key.drop_dead(self._store):
            _log.info("withdrawing a failover to a member that does not respond")

    async def _situation(self, wanted: frozenset[str]) -> Situation:
        node = await self._patroni.node(self._address)
        sync = await patroni_client.sync_state(self._store)
        config = await cluster_record(self._store).get()
        return Situation(
            member=self._member,
            node=node,
            standby=self._own.standby,
            settings=wanted,
            configured=config is not None and config.node(self._member) is not None,
            handing_over=await leader_key.pending(self._store),
            sync=sync,
            leader=await patroni_client.leader(self._store),
        )
