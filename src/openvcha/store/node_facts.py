"""The facts that a node reports about itself.

The node writes them as JSON, with a lease, under `keys.node_facts(member)`, so that the facts of a
dead node expire; the cluster reads them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with a zone. Without one, times cannot be compared, so they are rejected."""


class RefusalCause(StrEnum):
    """What makes PostgreSQL refuse the cluster's sessions.

    ROLE: a change of the role ``postgres``, or an unknown cause. TLS: the server's TLS settings.
    RULES: pg_hba.conf. FULL: no connection is free. NAMESPACE: ``db_user_namespace``. HANGING:
    logins get no answer, e.g. because a session locks a system catalog.
    """

    ROLE = "ROLE"
    TLS = "TLS"
    RULES = "RULES"
    FULL = "FULL"
    NAMESPACE = "NAMESPACE"
    HANGING = "HANGING"


class PostgresTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a node's PostgreSQL does not start (``starts``), or does not stream.

    ``times``: consecutive failures for the same ``reason``. ``lines`` are the last of its log.
    All fields are bounded and hold no password.
    """

    starts: bool
    times: int
    reason: str
    lines: tuple[str, ...] = ()


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A setting of the cluster that another file overrides.

    ``vital``: replication, or the safety of acknowledged rows, depends on it.
    """

    name: str
    value: str
    file: str
    vital: bool


class PostgresFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that users have made to a node's PostgreSQL; each list is bounded.

    ``pending_restart`` names settings that take effect at the next start, ``missing_libraries`` the
    libraries without which that start would fail. ``slots`` names users' replication slots,
    ``dropped_slots`` those of former members that Patroni has dropped, ``roles`` the settings of
    the cluster's own roles, ``commits`` for whom a commit is acknowledged before the passive has
    it. ``shared`` are values that must be equal on all nodes. ``collations`` says which databases
    were created with another collation version.
    """

    overrides: tuple[Override, ...] = ()
    pending_restart: tuple[str, ...] = ()
    missing_libraries: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    dropped_slots: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    shared: dict[str, str] = {}
    collations: tuple[str, ...] = ()


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node's report about itself.

    `versions` by program: openvcha, etcd, and on a data node postgresql and patroni. Sizes are in
    bytes, of the node's file system. `clock` is the node's time when it wrote the report.
    `api_certificate_until` is unset on a witness. `refusal` is why PostgreSQL, although it accepts
    connections, refuses new sessions of the cluster; `refusal_cause` decides what to do about it.
    """

    versions: dict[str, str]
    disk_free: int
    disk_total: int
    clock: Instant
    certificate_until: Instant
    api_certificate_until: Instant | None = None
    trouble: PostgresTrouble | None = None
    refusal: str | None = None
    refusal_cause: RefusalCause = RefusalCause.ROLE
    postgres: PostgresFacts | None = None


def encode(facts: NodeFacts) -> bytes:
    """Encode facts for the store."""
    return msgspec.json.encode(facts)


def decode(data: bytes) -> NodeFacts:
    """Decode facts from the store. Raises msgspec.DecodeError."""
    return bounded_json.decode(data, NodeFacts)


prepare(__name__)
