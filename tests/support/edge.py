"""The whole API over a simulated cluster, with its users, certificates and clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from argon2 import PasswordHasher
from starlette.types import ASGIApp

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import Operation
from openvcha.api.secret import Secret
from openvcha.api.types import (
    AnyErrorType,
    BooleanType,
    DateTimeType,
    DoubleType,
    EnumType,
    IdType,
    IntegerType,
    ListType,
    MapType,
    Opaque,
    OpaqueType,
    OptionalType,
    SecretType,
    SetType,
    StringType,
    StructType,
    Type,
    VoidType,
    descriptor,
)
from openvcha.api_server.app import build
from openvcha.api_server.auth.credential_cache import CredentialCache
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.passwords import Passwords
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import Users
from openvcha.api_server.pipeline import Pipeline
from openvcha.api_server.server.https import HttpsServer
from openvcha.events.audit import AuditLog
from openvcha.events.log import EventLog
from openvcha.node.security.certificates import api_certificate, new_authority
from openvcha.operations.caller import Caller
from openvcha.store.interface import Store
from openvcha.store.memory import MemoryStore

ADMINISTRATOR = "administrator@vsphere.local"


READER = "reader@vsphere.local"


NOBODY = "nobody@vsphere.local"


PASSWORD = 'p"ä\\w-tell-nobody'


STOP_SECONDS = 60
"""How long a stop waits for requests; what does not wait for them is over long before."""


WIRE = Path(__file__).parent / "wire"
"""Requests that the official SDK sent, and replies that it accepted."""


BEGINNING = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


class Clock:
    """A clock that advances when told to."""

    def __init__(self) -> None:
        self.time = BEGINNING

    def __call__(self) -> datetime:
        """Return the time."""
        return self.time

    def seconds(self) -> float:
        """Return the time as seconds since 1970."""
        return self.time.timestamp()

    def advance(self, **span: float) -> None:
        """Advance the time by a span, given as for timedelta."""
        self.time += timedelta(**span)


def example(tp: Any) -> Any:
    """Return a value of this Python type with every field set that may be set together."""
    return _example(descriptor(tp), ())


_PLAIN: Mapping[type[Type], Any] = {
    StringType: "text",
    IntegerType: 24,
    DoubleType: 1.5,
    BooleanType: True,
    SecretType: Secret("geheim-im-beispiel"),
    DateTimeType: BEGINNING,
    VoidType: None,
    OpaqueType: Opaque(str, "result"),
    AnyErrorType: ApiError(ErrorType.NOT_FOUND, message("task.not.found", "t")),
}


def _example(type_: Type, inside: tuple[type, ...]) -> Any:
    made: Any
    match type_:
        case IdType(resource):
            made = f"{resource or 'thing'}-1"
        case EnumType(cls):
            made = next(iter(cls))
        case OptionalType(StructType(cls)) if cls in inside:
            made = None
        case OptionalType(element):
            made = _example(element, inside)
        case ListType(element):
            made = (_example(element, inside),)
        case SetType(element):
            made = frozenset({_example(element, inside)})
        case MapType(_, value):
            made = {"key-1": _example(value, inside)}
        case StructType(cls):
            made = _structure(type_, (*inside, cls))
        case _:
            made = _PLAIN[type(type_)]
    return made


def _structure(type_: StructType, inside: tuple[type, ...]) -> Any:
    values = {each.attribute: _example(each.type, inside) for each in type_.fields}
    if type_.union is not None:
        chosen = type_.union.cases[values[type_.union.discriminant]]
        for name in {name for names in type_.union.cases.values() for name in names}:
            if name not in chosen:
                values[name] = None
    return type_.cls(**values)


@dataclass
class Simulated:
    """A SIMULATED dispatcher: returns an example of each output, or what a test has set."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[Operation, Mapping[str, Any], Caller]] = field(default_factory=list)

    async def invoke(
        self, operation: Operation, arguments: Mapping[str, Any], caller: Caller
    ) -> Any:
        """Note the call; return or raise the prepared answer, or return an example."""
        self.calls.append((operation, arguments, caller))
        if operation.id not in self.answers:
            return example(operation.reply)
        answer = self.answers[operation.id]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Edge:
    """Everything between a client and the dispatcher."""

    clock: Clock
    store: MemoryStore
    users: Users
    sessions: Sessions
    dispatcher: Simulated
    events: EventLog
    audit: AuditLog
    pipeline: Pipeline
    app: ASGIApp
    client: httpx2.AsyncClient

    async def token(self, name: str = ADMINISTRATOR) -> str:
        """Open a session for a user."""
        user = await self.users.find(name)
        assert user is not None
        return (await self.sessions.create(user)).reveal()

    async def headers(self, name: str = ADMINISTRATOR) -> dict[str, str]:
        """Return the header of a new session."""
        return {"vmware-api-session-id": await self.token(name)}


def cheap_passwords() -> Passwords:
    """Return argon2id with the lowest possible cost."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


async def make_edge(store: MemoryStore | None = None, *, mirror: Store | None = None) -> Edge:
    """Create an edge over a store; a second one over the same store is the API after a restart.

    It reads and writes through ``mirror``, if given, a mirror of the store.
    """
    clock, new, kept = Clock(), store is None, store or MemoryStore()
    used = mirror or kept
    verified = CredentialCache(monotonic=clock.seconds)
    users = Users(used, clock=clock, passwords=cheap_passwords(), credential_cache=verified)
    sessions = Sessions(used, users, clock=clock)
    dispatcher = Simulated()
    events = EventLog(used, clock)
    audit = AuditLog(used, clock, clock.seconds)
    pipeline = Pipeline(dispatcher, users, sessions, audit, operation_id=lambda: "operation-0815")
    app = build(dispatcher, users, sessions, events=events, audit=audit, pipeline=pipeline)
    transport = httpx2.ASGITransport(app=app)
    client = httpx2.AsyncClient(transport=transport, base_url="https://testserver")
    if new:
        await users.add(ADMINISTRATOR, Secret(PASSWORD), UserRole.ADMINISTRATOR)
        await users.add(READER, Secret(PASSWORD), UserRole.READ_ONLY)
        await users.add(NOBODY, Secret(PASSWORD), UserRole.NO_ACCESS)
    return Edge(clock, kept, users, sessions, dispatcher, events, audit, pipeline, app, client)


@dataclass(frozen=True)
class TlsFiles:
    """The PEM files of an authority and of a server certificate for loopback."""

    authority: Path
    certificate: Path
    key: Path


def make_tls(directory: Path) -> TlsFiles:
    """Create a new authority and a certificate issued by it."""
    authority = new_authority()
    pair = api_certificate(authority, "127.0.0.1", "localhost")
    files = TlsFiles(*(directory / name for name in ("ca.crt", "api.crt", "api.key")))
    files.authority.write_bytes(authority.certificate)
    files.certificate.write_bytes(pair.certificate)
    files.key.write_bytes(pair.key)
    return files


@dataclass(frozen=True)
class Served:
    """An edge behind a real TLS socket."""

    edge: Edge
    server: HttpsServer
    port: int
    tls: TlsFiles

    @property
    def where(self) -> str:
        """Return host and port of the server."""
        return f"127.0.0.1:{self.port}"
