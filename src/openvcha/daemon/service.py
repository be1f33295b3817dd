"""The service of a data node: leadership, the public address and tasks; everything but the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from openvcha.daemon.api_processes.links import ApiLinks
from openvcha.daemon.api_processes.orders import Orders
from openvcha.daemon.compose import (
    in_background,
    keep_refreshed,
    open_patroni,
    open_services,
    open_superuser,
)
from openvcha.daemon.first_administrator import add_first_administrator
from openvcha.daemon.initial_config import write_first_config
from openvcha.daemon.keepers.deletions import DeletionKeeper
from openvcha.daemon.keepers.event_watcher import EventWatcher, patrol_forever, sweep_forever
from openvcha.daemon.keepers.inventory import InventoryKeeper
from openvcha.daemon.keepers.postgres import PostgresKeeper
from openvcha.daemon.leading.active_services import ActiveServices, PublicAddress
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.leading.leadership import Leadership
from openvcha.daemon.public_address.holder import own_address
from openvcha.daemon.public_address.reporter import AddressReporter
from openvcha.daemon.unreadable_records import RecordInspection
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node.engines import find_postgres
from openvcha.node.etcd.account import load_account
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.postgres.server import LocalPostgres, postgres_major
from openvcha.node.postgres.writable import WritableProbe
from openvcha.node.process.supervised_loop import Work, run_forever
from openvcha.node.security.tls import NodeTls
from openvcha.operations.context import Services
from openvcha.operations.registry import plans
from openvcha.system.structlog_light import structlog
from openvcha.tasks.runner import Runner

_log = structlog.get_logger(__name__)


async def serve(directory: Path, api_workers: int = 1) -> None:
    """Run the service of a data node, whose API has this many workers, until canceled."""
    term = LeaderTerm()
    async with (
        open_services(directory, keeps=True) as services,
        _keeper(services) as keeper,
        own_address(services, term) as public,
    ):
        api = _api(services, api_workers, term)
        reporter = AddressReporter(
            services.store,
            services.identity.member,
            lambda: public.address.state,
            obstacle=public.obstacle,
        )
        active = _active_services(services, public.address, api, reporter)
        superuser = open_superuser(services.identity, directory)
        await superuser.prepare()
        writable = WritableProbe(lambda: superuser.connect(services.identity.ha_address))
        works: Mapping[str, Work] = {
            "store endpoints": lambda: keep_refreshed(services.store),
            "node reports": services.observer.node_reports.run,
            "user and token roll": lambda: patrol_forever(services.follow_roll),
            "address report": reporter.run,
            "PostgreSQL keeper": keeper.run,
            "PostgreSQL connection": writable.keep_ready,
            **public.works,
            **api.works(),
        }
        async with in_background(services, works):
            leadership = Leadership(
                services.store,
                services.patroni,
                services.identity,
                writable.wait,
                term=term,
                proof=public.proof,
                report_health=services.failing,
            )
            await active.follow(leadership.changes())


@asynccontextmanager
async def _keeper(services: Services) -> AsyncIterator[PostgresKeeper]:
    identity, layout = services.identity, Layout(services.directory)
    chosen = identity.engines.postgresql
    engines = find_postgres(major=postgres_major(layout.pgdata), chosen=chosen)
    async with open_patroni(identity, layout, NodeTls(layout)) as client:
        own = LocalPostgres(layout, engines)
        yield PostgresKeeper(services.store, client, own, identity.member, identity.ha_address)


def _api(services: Services, workers: int, term: LeaderTerm) -> ApiLinks:
    def orders(serve: bool) -> Orders:
        return Orders(
            serve=serve,
            term=term.revision,
            failing=services.failing.own,
            unreadable=services.observer.unreadable,
            forged=services.observer.forged,
        )

    return ApiLinks(Layout(services.directory), workers, orders, services.failing.note_others)


def _active_services(
    services: Services, public: PublicAddress, api: ApiLinks, reporter: AddressReporter
) -> ActiveServices:
    return ActiveServices(
        prepare=lambda: _prepare(services),
        forwarder=public,
        api=api,
        address=services.identity.public_address,
        work=_work(services, public),
        report_health=services.failing,
        report_address=lambda leads: reporter.note(leads=leads),
    )


async def _prepare(services: Services) -> None:
    """Secure the store before other accounts get access, and write the first configuration."""
    own = await asyncio.to_thread(load_account, services.directory)
    await services.store.accounts.enable_auth(own)
    identity = services.identity
    kept = await asyncio.to_thread(load_kept, Layout(services.directory), identity)
    await write_first_config(services.store, services.infrastructure, identity, kept)
    await add_first_administrator(services.store, Layout(services.directory))


def _work(services: Services, public: PublicAddress) -> Callable[[], Awaitable[None]]:
    member = services.identity.member
    events, audit = EventLog(services.store), AuditLog(services.store)
    runner = Runner(services.store, services.journal, plans(services), name=member)
    watcher = EventWatcher(
        services.store,
        events,
        member,
        observe=services.observer.observe,
        holds_address=lambda: public.held,
        report_health=services.failing,
    )
    inspection = RecordInspection(services.store, services.observer.note_unreadable)
    keeper = DeletionKeeper(
        services.store, services.infrastructure, member, services.observer.observe
    )
    works: Mapping[str, Work] = {
        "tasks": runner.run,
        "owed deletions": keeper.run,
        **_copying(services),
        "record inspection": inspection.run,
        "events": watcher.run,
        "record seals": lambda: patrol_forever(services.monitor_records),
        "old records": lambda: sweep_forever(events.sweep, audit.sweep),
    }

    async def work() -> None:
        """Run tasks, write events and delete old records; none of these waits for another."""
        async with asyncio.TaskGroup() as parts:
            for name, part in works.items():
                parts.create_task(
                    run_forever(name, part, _log, report_health=services.failing), name=name
                )

    return work


def _copying(services: Services) -> Mapping[str, Work]:
    """Return the work that copies an inventory to the store, unless it is there already."""
    if services.identity.infrastructure.get("kind") != "local":
        return {}
    member = services.identity.member
    return {
        "copy of the inventory": InventoryKeeper(
            services.store, services.infrastructure, member
        ).run
    }
