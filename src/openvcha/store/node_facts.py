"""The facts that a node reports about itself.

The node writes them as JSON, with a lease, under `keys.node_facts(member)`, so that the facts of a
dead node expire; the cluster reads them.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""Times without a zone are rejected: they cannot be compared."""


class PostgresTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node's PostgreSQL does not start (``starts``), or does not stream.

    ``times``: so often in a row for the same ``reason``. ``lines`` are the last of its log.
    All is bounded and holds no password.
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
    """What users have changed in a node's PostgreSQL; each list is bounded.

    ``pending_restart`` names settings that count from the next start on, ``missing_libraries``
    those without which it would then not start. ``slots`` names replication slots, ``roles`` says
    what is set for the cluster's own roles, ``commits`` for whom a commit is acknowledged before
    the passive has it. ``shared`` are values that must be equal on all nodes.
    ``collations`` says which databases were made with another version of the order of text.
    """

    overrides: tuple[Override, ...] = ()
    pending_restart: tuple[str, ...] = ()
    missing_libraries: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    shared: dict[str, str] = {}
    collations: tuple[str, ...] = ()


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node's report about itself.

    `versions` by program: openvcha, etcd, and on a data node postgresql and patroni. Bytes of the
    file system that the node is on. `clock` is the node's time when this was written.
    `api_certificate_until` is unset on a witness. `refusal` is why PostgreSQL lets no new session
    of the cluster in, although it takes connections.
    """

    versions: dict[str, str]
    disk_free: int
    disk_total: int
    clock: Instant
    certificate_until: Instant
    api_certificate_until: Instant | None = None
    trouble: PostgresTrouble | None = None
    refusal: str | None = None
    postgres: PostgresFacts | None = None


def encode(facts: NodeFacts) -> bytes:
    """Encode facts for the store."""
    return msgspec.json.encode(facts)


def decode(data: bytes) -> NodeFacts:
    """Decode facts from the store. Raises msgspec.DecodeError."""
    return bounded_json.decode(data, NodeFacts)


prepare(__name__)
