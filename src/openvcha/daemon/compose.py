"""The composition, from a node's directory, of what both programs of a data node use."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from openvcha.api.secret import Secret
from openvcha.api_server.auth.administrators import administrator_generation
from openvcha.cluster.interface import ClusterStore
from openvcha.cluster.observing.observer import Observer
from openvcha.cluster.observing.store_space import StoreSpaceProbe
from openvcha.cluster.patroni_client import PatroniClient
from openvcha.daemon.infrastructure import node_infrastructure
from openvcha.daemon.keepers.replication_lag import ReplicationLag
from openvcha.infrastructure.interface import Infrastructure
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.endpoints import register
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.identity import Identity, load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import REST_USER
from openvcha.node.postgres.standby_data.external_data import find_external_data
from openvcha.node.postgres.superuser import Superuser
from openvcha.node.process.supervised_loop import BackgroundFailures, Work, run_forever
from openvcha.node.security.rotation_files import OwnCredentials
from openvcha.node.security.tls import NodeTls
from openvcha.node.store_access import sealed_store
from openvcha.operations.context import Services
from openvcha.operations.steps.node_vms import surely_off
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import SILENCE_SECONDS, Etcd
from openvcha.store.mirror import Mirror
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.write_marks import WriteMarks
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog
from openvcha.tasks.journal import Journal

REFRESH_SECONDS = 30.0
BASE_BACKUP_MARGIN = 1.1
BASE_BACKUP_EXTRA_BYTES = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_services(
    directory: Path,
    *,
    keeps: bool = False,
    mirrors: bool = False,
    writes: WriteMarks | None = None,
    silence: float = SILENCE_SECONDS,
) -> AsyncIterator[Services]:
    """Open everything that the operations need on this node.

    ``keeps``: this process writes the node's local copy of the records that it needs without the
    store. ``mirrors``: it serves frequent reads from memory, while that is proven fresh; writes
    marked in ``writes`` are visible at once. ``silence``: after how many quiet seconds a watch of
    the store checks its endpoint.
    """
    async with _connected(directory, keeps, mirrors, writes, silence) as node:
        await _refresh(node.store)
        infrastructure = node_infrastructure(node.identity, node.layout, node.store)
        failing = BackgroundFailures()
        observer = _observer(node, infrastructure, failing, reuses=mirrors)
        yield _services(node, infrastructure, failing, observer)


@dataclass(frozen=True)
class _ConnectedNode:
    """A node's own settings, and its open clients of the store, Patroni and PostgreSQL."""

    identity: Identity
    layout: Layout
    superuser: Superuser
    mirror: Mirror
    store: SealedEtcd
    patroni: PatroniClient
    lags: ReplicationLag


@asynccontextmanager
async def _connected(
    directory: Path, keeps: bool, mirrors: bool, writes: WriteMarks | None, silence: float
) -> AsyncIterator[_ConnectedNode]:
    """Open the clients; see ``open_services``."""
    layout = Layout(directory)
    identity = load_identity(directory)
    tls = NodeTls(layout)
    superuser = open_superuser(identity, directory)
    endpoints, account = known_endpoints(identity, layout), NodeAccount(directory)
    etcd = Etcd(endpoints, tls, silence=silence, account=account)
    mirror = Mirror(etcd, writes=writes)
    async with (
        sealed_store(layout, etcd, keeps=keeps, mirror=mirror if mirrors else None) as store,
        open_patroni(identity, layout, tls) as patroni,
        aclosing(ReplicationLag(lambda: superuser.connect(identity.ha_address))) as lags,
    ):
        yield _ConnectedNode(identity, layout, superuser, mirror, store, patroni, lags)


def _observer(
    node: _ConnectedNode,
    infrastructure: Infrastructure,
    failing: BackgroundFailures,
    *,
    reuses: bool,
) -> Observer:
    """Return the node's observer; ``reuses``: of an unchanged store, it reuses observations."""
    return Observer(
        node.store,
        node.patroni,
        node.lags,
        failing=lambda: failing.reasons,
        off=partial(surely_off, infrastructure),
        refused=node.store.refused,
        lag_limit=node.identity.timers.replication_lag,
        node_leader_ttl=node.identity.timers.leader_ttl,
        space=StoreSpaceProbe(node.store, node.identity.store.quota_bytes).measure,
        change_number=node.mirror.change_number if reuses else None,
    )


def _services(
    node: _ConnectedNode,
    infrastructure: Infrastructure,
    failing: BackgroundFailures,
    observer: Observer,
) -> Services:
    """Return what the operations use."""
    layout = node.layout
    return Services(
        store=node.store,
        patroni=node.patroni,
        observer=observer,
        infrastructure=infrastructure,
        journal=Journal(node.store),
        identity=node.identity,
        directory=layout.root,
        credentials=OwnCredentials(layout, node.identity),
        data_bytes=lambda: asyncio.to_thread(_base_backup_bytes, layout.pgdata),
        register=lambda made: asyncio.to_thread(register, layout, made),
        external_data=lambda: asyncio.to_thread(find_external_data, layout),
        postgres=node.superuser,
        administrator=partial(administrator_generation, node.store),
        requires_votes=layout.required_votes.exists,
        failing=failing,
        monitor_records=node.store.monitor,
        follow_roll=node.store.follow_roll,
        mirror=node.mirror.follow,
    )


def open_patroni(identity: Identity, layout: Layout, tls: NodeTls) -> PatroniClient:
    """Return a client of Patroni's APIs, with the node's certificate and current password."""

    def password() -> Secret:
        return load_secrets(layout.root).patroni_rest

    return PatroniClient(tls, REST_USER, password, identity.ports.patroni)


def open_superuser(identity: Identity, directory: Path) -> Superuser:
    """Return the superuser of the cluster's PostgreSQL, for the node with this directory."""
    return Superuser(Layout(directory), identity.ports.postgres)


@asynccontextmanager
async def in_background(services: Services, works: Mapping[str, Work]) -> AsyncIterator[None]:
    """Run background jobs during a block; note their failures in ``services.failing``."""
    tasks = [
        asyncio.create_task(
            run_forever(name, work, _log, report_health=services.failing), name=name
        )
        for name, work in works.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def keep_refreshed(store: ClusterStore) -> None:
    """Refresh the endpoints of the store until canceled: other nodes replace its members."""
    await asyncio.sleep(REFRESH_SECONDS)
    await repeat(lambda: _refresh(store), REFRESH_SECONDS)


async def _refresh(store: ClusterStore) -> None:
    """Refresh the endpoints once; during a cold start no member may respond yet."""
    try:
        await store.refresh_endpoints()
    except StoreError:
        return


def _base_backup_bytes(pgdata: Path) -> int:
    """Return how many bytes a base backup will need, with a margin for changes in the meantime."""
    total = 0
    for folder, _, names in os.walk(pgdata):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except FileNotFoundError:
                continue  # PostgreSQL may remove files at any time
    return int(total * BASE_BACKUP_MARGIN) + BASE_BACKUP_EXTRA_BYTES
