"""Putting a serving node together from its directory."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from openvcha.api.secret import Secret
from openvcha.cluster.access import ClusterStore
from openvcha.cluster.observe import Observer
from openvcha.cluster.patroni import PatroniClient
from openvcha.cluster.space import SpaceLooks
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node import files
from openvcha.node.account import NodeAccount, load_account
from openvcha.node.address import Forwarder
from openvcha.node.address_thread import ForwarderThread
from openvcha.node.credentials import OwnCredentials
from openvcha.node.elsewhere import data_elsewhere
from openvcha.node.endpoints import register
from openvcha.node.engines import find_postgres
from openvcha.node.etcd import known_endpoints
from openvcha.node.identity import Identity, load_identity, load_secrets
from openvcha.node.kept import load_kept
from openvcha.node.layout import Layout
from openvcha.node.patroni import REST_USER, postgres_major
from openvcha.node.places import most_clients
from openvcha.node.postgres import LocalPostgres
from openvcha.node.sealed_store import sealed_store
from openvcha.node.superuser import Superuser
from openvcha.node.supervised import Failing, Work, for_ever
from openvcha.node.tls import NodeTls
from openvcha.node.writable import Writable
from openvcha.protocols.app import build
from openvcha.protocols.serve import HttpsServer
from openvcha.protocols.sessions import Sessions
from openvcha.protocols.users import Users
from openvcha.service.context import Services
from openvcha.service.handlers import Handlers, plans
from openvcha.service.power import surely_off
from openvcha.serving.carrier import infrastructure_of
from openvcha.serving.duty import Duty
from openvcha.serving.first import write_first_config
from openvcha.serving.inspection import Inspection
from openvcha.serving.keeper import Keeper
from openvcha.serving.lags import Lags
from openvcha.serving.leadership import Leadership
from openvcha.serving.watcher import Watcher, patrol_always, sweep_always
from openvcha.store.errors import StoreError
from openvcha.store.etcd import Etcd
from openvcha.store.structured import structlog
from openvcha.tasks.journal import Journal
from openvcha.tasks.runner import Runner

REFRESH_SECONDS = 15.0
DATA_MARGIN = 1.1
DATA_EXTRA = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


async def serve(directory: Path) -> None:
    """Be the service of a data node until canceled."""
    async with (
        services_of(directory, keeps=True) as services,
        _keeper(services) as keeper,
        _address(services.identity, Layout(directory)) as forwarder,
    ):
        duty = _duty(services, forwarder)
        superuser = superuser_of(services.identity, directory)
        await superuser.prepare()
        writable = Writable(lambda: superuser.connect(services.identity.ha_address))
        works: Mapping[str, Work] = {
            "endpoints of the store": lambda: _keep_refreshed(services.store),
            "facts of the nodes": services.observer.hearing.run,
            "keeper of PostgreSQL": keeper.run,
            "connection to PostgreSQL": writable.keep_ready,
        }
        beside = [
            asyncio.create_task(for_ever(name, work, _log, told=services.failing), name=name)
            for name, work in works.items()
        ]
        try:
            leadership = Leadership(
                services.store,
                services.patroni,
                services.identity,
                writable.wait,
                told=services.failing,
            )
            await duty.follow(leadership.changes())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


@asynccontextmanager
async def services_of(directory: Path, *, keeps: bool = False) -> AsyncIterator[Services]:
    """Open everything that the operations need, as this node sees it.

    ``keeps``: this process keeps what the node must remember of the store.
    """
    layout = Layout(directory)
    identity = load_identity(directory)
    tls = NodeTls(layout)
    superuser = superuser_of(identity, directory)
    etcd = Etcd(known_endpoints(identity, layout), tls, account=NodeAccount(directory))
    async with (
        sealed_store(layout, etcd, keeps=keeps) as store,
        patroni_of(identity, layout, tls) as patroni,
        aclosing(Lags(lambda: superuser.connect(identity.ha_address))) as lags,
    ):
        await _refresh(store)
        failing, infrastructure = Failing(), infrastructure_of(identity)
        off = partial(surely_off, infrastructure)
        yield Services(
            store=store,
            patroni=patroni,
            observer=Observer(
                store,
                patroni,
                lags,
                failing=lambda: failing.reasons,
                off=off,
                refused=store.refused,
                space=SpaceLooks(store, identity.store.quota_bytes).look,
            ),
            infrastructure=infrastructure,
            journal=Journal(store),
            identity=identity,
            directory=directory,
            credentials=OwnCredentials(layout, identity),
            data_bytes=lambda: asyncio.to_thread(_copy_bytes, layout.pgdata),
            register=lambda made: asyncio.to_thread(register, layout, made),
            elsewhere=lambda: asyncio.to_thread(data_elsewhere, layout),
            postgres=superuser,
            failing=failing,
            patrol=store.patrol,
        )


@asynccontextmanager
async def _keeper(services: Services) -> AsyncIterator[Keeper]:
    identity, layout = services.identity, Layout(services.directory)
    engines = find_postgres(major=postgres_major(layout.pgdata))
    async with patroni_of(identity, layout, NodeTls(layout)) as client:
        own = LocalPostgres(layout, engines)
        yield Keeper(services.store, client, own, identity.member, identity.ha_address)


def patroni_of(identity: Identity, layout: Layout, tls: NodeTls) -> PatroniClient:
    """Open the Patronis, with what a node's directory has to prove it at each request."""

    def password() -> Secret:
        return load_secrets(layout.root).patroni_rest

    return PatroniClient(tls, REST_USER, password, identity.ports.patroni)


def superuser_of(identity: Identity, directory: Path) -> Superuser:
    """Be the superuser of the cluster's PostgreSQL, from a node's directory."""
    return Superuser(Layout(directory), identity.ports.postgres)


def _address(identity: Identity, layout: Layout) -> ForwarderThread:
    port = identity.ports.postgres
    public, own = (identity.public_address, port), (identity.ha_address, port)
    return ForwarderThread(Forwarder(public, own, most_clients(layout)))


def _duty(services: Services, forwarder: ForwarderThread) -> Duty:
    identity = services.identity
    layout = Layout(services.directory)
    users = Users(services.store)
    sessions = Sessions(
        services.store,
        users,
        idle=timedelta(minutes=identity.sessions.idle_minutes),
        absolute=timedelta(hours=identity.sessions.absolute_hours),
        per_user=identity.sessions.per_user,
    )
    events, audit = EventLog(services.store), AuditLog(services.store)
    app = build(Handlers(services), users, sessions, events=events, audit=audit)
    server = HttpsServer(app, layout.root / files.API_CERTIFICATE, layout.root / files.API_KEY)
    return Duty(
        prepare=lambda: _prepare(services),
        forwarder=forwarder,
        server=server,
        address=(identity.public_address, identity.ports.api),
        work=_work(services, forwarder, events, audit),
        told=services.failing,
    )


async def _prepare(services: Services) -> None:
    """Protect the store before anybody else can be let in to it, and write what the cluster is."""
    own = await asyncio.to_thread(load_account, services.directory)
    await services.store.accounts.protect(own)
    identity = services.identity
    kept = await asyncio.to_thread(load_kept, Layout(services.directory), identity)
    await write_first_config(services.store, services.infrastructure, identity, kept)


def _work(
    services: Services, forwarder: ForwarderThread, events: EventLog, audit: AuditLog
) -> Callable[[], Awaitable[None]]:
    member = services.identity.member
    runner = Runner(services.store, services.journal, plans(services), name=member)
    watcher = Watcher(
        services.store,
        events,
        member,
        observe=services.observer.observe,
        holds_address=lambda: forwarder.held,
        told=services.failing,
    )
    inspection = Inspection(services.store, services.observer.note_unreadable)
    works: Mapping[str, Work] = {
        "tasks": runner.run,
        "inspection of the store": inspection.run,
        "events": watcher.run,
        "patrol of the records": lambda: patrol_always(services.patrol),
        "removal of old records": lambda: sweep_always(events.sweep, audit.sweep),
    }

    async def work() -> None:
        """Carry out tasks, tell what happens, forget what is old; none waits for another."""
        async with asyncio.TaskGroup() as parts:
            for name, part in works.items():
                parts.create_task(for_ever(name, part, _log, told=services.failing), name=name)

    return work


async def _keep_refreshed(store: ClusterStore) -> None:
    """Follow the members while other nodes replace them: else only addresses of the past stay."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        await _refresh(store)


async def _refresh(store: ClusterStore) -> None:
    """Learn the members that came later; at a cold start there is nobody to ask yet."""
    try:
        await store.refresh_endpoints()
    except StoreError:
        return


def _copy_bytes(pgdata: Path) -> int:
    """Measure what a copy will take, with room for the changes meanwhile."""
    total = 0
    for folder, _, names in os.walk(pgdata):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except FileNotFoundError:
                continue  # PostgreSQL removes files all the time
    return int(total * DATA_MARGIN) + DATA_EXTRA
