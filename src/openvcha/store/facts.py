"""What a node alone knows of itself, and tells the cluster.

It stands under `keys.node_facts(member)` as JSON, with a lease: what a node that is gone has told
goes by itself. The node writes it, the cluster reads it.
"""

from datetime import datetime

import msgspec

from openvcha.api.prepared import prepare


class PostgresTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node's PostgreSQL does not start (``starts``), else why it does not stream.

    ``times``: so often in a row for the same ``reason``. ``lines`` are the last of its log.
    All is bounded and holds no password.
    """

    starts: bool
    times: int
    reason: str
    lines: tuple[str, ...] = ()


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One look of a node at itself.

    `versions` by program: openvcha, etcd, and on a data node postgresql and patroni. Bytes of the
    file system that the node is on. `clock` is the node's time when this was written.
    `api_certificate_until` is unset on a witness.
    """

    versions: dict[str, str]
    disk_free: int
    disk_total: int
    clock: datetime
    certificate_until: datetime
    api_certificate_until: datetime | None = None
    trouble: PostgresTrouble | None = None


def encode(facts: NodeFacts) -> bytes:
    """Write facts for the store."""
    return msgspec.json.encode(facts)


def decode(data: bytes) -> NodeFacts:
    """Read facts from the store; raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=NodeFacts)


prepare(__name__)
