"""The API process of a data node, which serves only while the service orders it to.

It has its own store client and its own view of the cluster, so clients cannot slow down the
process that leads, runs tasks and holds the public address of the data.

There may be several of them, the workers. Then another process (`distributor.py`) accepts the
connections.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

from openvcha.api_server.app import build, build_joins
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.api_server.connection_limits import part_of_connections
from openvcha.api_server.pipeline import Pipeline
from openvcha.api_server.server.https import HttpsServer, Limits
from openvcha.api_server.server.listening import Listener
from openvcha.api_server.server.passed_connections import PassedConnections
from openvcha.daemon.api_processes.join_listener import AlsoJoins, join_server
from openvcha.daemon.api_processes.ordered_api import ApiServer, ApiService, Sight, follow_service
from openvcha.daemon.api_processes.orders import Orders
from openvcha.daemon.api_processes.worker_socket import register
from openvcha.daemon.compose import in_background, keep_refreshed, open_services
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.public_address.listening import API_DRAIN_SECONDS, Listen, listens
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node.identity import Identity
from openvcha.node.layout import API_CERTIFICATE, API_KEY, SERVICE_CA_CERTIFICATE, Layout
from openvcha.node.process.supervised_loop import Work
from openvcha.operations.context import Services
from openvcha.operations.registry import Handlers
from openvcha.store.write_marks import OwnWrites, SharedWrites, WriteMarks
from openvcha.system.structlog_light import structlog

COPY = "API: store copy"
WATCH_SILENCE_SECONDS = 4.0
"""Longer than the service's: what the API reads is proven fresh otherwise, or read from the store.
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ApiWorker:
    """A process that serves the API: the only one (number 0), or one of several (from 1)."""

    number: int = 0
    of: int = 1


async def serve_api(directory: Path, worker: ApiWorker) -> None:
    """Run the API of a data node, or a worker of it, until canceled."""
    layout = Layout(directory)
    writes = write_marks(layout, worker)
    copies = writes is not None
    async with (
        open_services(
            directory, mirrors=copies, writes=writes, silence=WATCH_SILENCE_SECONDS
        ) as services,
        in_background(services, background_work(services, copies=copies)),
    ):
        address = services.identity.public_address, services.identity.ports.api
        observe = partial(observe_cluster, services)
        term = LeaderTerm()
        server = server_of(services, worker, apps_of(services, worker), term)
        api = ApiService(server, address, observe, report_health=services.failing)

        def apply(order: Orders) -> None:
            term.revision = order.term
            apply_orders(order, services)

        await follow_service(api, layout.api_socket_of(worker.number), services.failing, apply)


def write_marks(layout: Layout, worker: ApiWorker) -> WriteMarks | None:
    """Return the marks that make a worker's copy void; None if it cannot share the others'."""
    if not worker.number:
        return OwnWrites()
    try:
        return SharedWrites(layout.api_writes, worker.number)
    except OSError as error:
        _log.warning("cannot share the marks of writes", reason=str(error))
        return None


async def observe_cluster(services: Services) -> Sight:
    """Observe the cluster, and return what that showed. Raises StoreError."""
    try:
        seen = await services.observe()
    except LookupError:
        return Sight()  # the first node has not written the configuration yet
    complete = seen.complete and services.observer.node_reports.connected
    return Sight(complete, complete and seen.certain)


def apply_orders(order: Orders, services: Services) -> None:
    """Store what only the service knows, so that this process can report it."""
    services.failing.note_others(order.failing)
    services.observer.note_unreadable(order.unreadable)
    services.observer.note_forged(order.forged)


def background_work(services: Services, *, copies: bool) -> Mapping[str, Work]:
    """Return the work by name; without a copy of the store, note that as a failure of its work."""
    work: dict[str, Work] = {
        "API: store endpoints": lambda: keep_refreshed(services.store),
        "API: node reports": services.observer.node_reports.run,
    }
    if copies:
        work[COPY] = services.mirror
    else:
        services.failing(COPY, "the marks of writes cannot be shared: see the log")
    return work


@dataclass(frozen=True)
class Apps:
    """The applications for clients and for new nodes; they share their limits."""

    clients: ASGIApp
    joins: ASGIApp


def apps_of(services: Services, worker: ApiWorker) -> Apps:
    """Return the applications that a worker serves."""
    identity = services.identity
    users = Users(services.store)
    sessions = Sessions(
        services.store,
        users,
        idle=timedelta(minutes=identity.sessions.idle_minutes),
        absolute=timedelta(hours=identity.sessions.absolute_hours),
        per_user=identity.sessions.per_user,
        workers=worker.of,
    )
    events = EventLog(services.store)
    audit = AuditLog(services.store, workers=worker.of)
    handlers = Handlers(services)
    pipeline = Pipeline(handlers, users, sessions, audit, workers=worker.of)
    app = build(handlers, users, sessions, events=events, audit=audit, pipeline=pipeline)
    return Apps(app, build_joins(pipeline))


def server_of(services: Services, worker: ApiWorker, apps: Apps, term: LeaderTerm) -> ApiServer:
    """Return the server of clients; of several workers, the first also serves new nodes."""
    root, identity = services.directory, services.identity
    clients = HttpsServer(
        apps.clients,
        root / API_CERTIFICATE,
        root / API_KEY,
        authority=root / SERVICE_CA_CERTIFICATE,
        limits=Limits(connections=part_of_connections(Limits.connections, worker.of)),
        listen=_listen(identity, Layout(root), worker, term),
    )
    if worker.number > 1:
        return clients
    address = identity.ha_address, identity.ports.join
    return AlsoJoins(clients, join_server(apps.joins, root), address, services.failing)


def _listen(identity: Identity, layout: Layout, worker: ApiWorker, term: LeaderTerm) -> Listen:
    """Return what listens for clients: here, or as the worker of a process that does."""

    async def receive(address: str, port: int) -> Listener:
        channel = register(layout.api_connections, worker.number)
        return PassedConnections(channel, (address, port))

    return receive if worker.number else listens(identity, term, drain=API_DRAIN_SECONDS)
