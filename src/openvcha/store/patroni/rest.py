"""The report of a Patroni on its PostgreSQL over REST (``GET /patroni``), as a type."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from openvcha.store import keys
from openvcha.store.bounded_json import json_object

Fields = dict[str, Any]


@dataclass(frozen=True)
class PatroniNode:
    """The report of one Patroni on its PostgreSQL.

    ``state`` is Patroni's word, e.g. ``streaming``.
    """

    role: str
    state: str
    timeline: int | None
    replication: tuple[str, ...]
    """Members that stream from this node, when it is the primary."""
    alone: bool = False
    """Whether Patroni lets this node work without the others."""
    synchronous: tuple[str, ...] = ()
    """The members of ``replication`` that this node's commits wait for."""
    member: str | None = None
    """The node's own name, if the report has it."""
    started: str = ""
    """When this PostgreSQL was started, as Patroni writes it."""
    lsn: int | None = None
    """The position in bytes up to which it has written, or received, WAL."""
    last_row: str | None = None
    """The commit time of the last transaction that a standby replayed, as Patroni writes it."""

    @property
    def primary(self) -> bool:
        """Return whether this PostgreSQL accepts writes."""
        return self.role in {"primary", "master"} and self.state == "running"

    @property
    def replica(self) -> bool:
        """Return whether this PostgreSQL is a standby, or was one when it stopped."""
        return self.role == "replica"

    @property
    def stopped(self) -> bool:
        """Return whether Patroni knows that this PostgreSQL is not running."""
        return self.state == "stopped"

    @property
    def streaming(self) -> bool:
        """Return whether this PostgreSQL is a standby that receives WAL."""
        return self.replica and self.state == "streaming"


def read_node(page: bytes) -> PatroniNode | None:
    """Read the body of a response; return None if it is not a JSON object."""
    fields = json_object(page)
    return None if fields is None else node_of(fields)


def node_of(fields: Fields) -> PatroniNode:
    """Read the fields of a response; an invalid one is unknown."""
    streams = [_object(each) for each in _list(fields.get("replication"))]
    xlog = _object(fields.get("xlog"))
    return PatroniNode(
        role=str(fields.get("role", "")),
        # The replication state of a standby, if Patroni distinguishes it from ``running``.
        state=str(fields.get("replication_state") or fields.get("state", "")),
        timeline=_number(fields.get("timeline")),
        replication=_standbys(streams, "state", "streaming"),
        alone=bool(_object(fields.get("tags")).get(keys.ALONE)),
        synchronous=_standbys(streams, "sync_state", "sync", "quorum"),
        member=_text(_object(fields.get("patroni")).get("name")),
        started=str(fields.get("postmaster_start_time") or ""),
        lsn=_position(xlog),
        last_row=_text(xlog.get("replayed_timestamp")),
    )


def _position(xlog: Fields) -> int | None:
    told = (xlog.get(name) for name in ("location", "received_location", "replayed_location"))
    return max((place for place in told if isinstance(place, int)), default=None)


def _standbys(streams: Iterable[Fields], field: str, *wanted: str) -> tuple[str, ...]:
    """Return the names of the connections whose ``field`` is one of ``wanted``."""
    return tuple(
        name
        for each in streams
        if each.get(field) in wanted and (name := _text(each.get("application_name")))
    )


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
